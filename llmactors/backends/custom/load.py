"""Finds a backend that others wrote, by the name of an entry point or by a dotted path, and checks it.

`CUSTOM.md` beside this file says how to write one. Three shapes are taken:

- a class, or a function, that returns a `StepwiseBackend` or a `StreamingBackend`; options are its keyword arguments;
- a plain function `generate(prompts, max_tokens)`;
- a class whose objects can be called like that. The object is made in a thread, where it may load a model.
"""

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast, get_type_hints

import msgspec

from llmactors.actors import fatal
from llmactors.backends.base import Backend, StepwiseBackend, StreamingBackend
from llmactors.backends.custom.batch import BatchBackend, BatchFunction, BatchSettings, takes_batches
from llmactors.errors import ConfigError

GROUP = "llmactors.backends"
_STEPWISE = ("start", "admit", "step", "evict", "check", "close")
_STREAMING = ("start", "generate", "check", "close")


def installed() -> dict[str, EntryPoint]:
    """The backends that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_backend(source: str, *, slots: int | None = None, context: int | None = None) -> Callable[[], Backend]:
    """Returns the factory of the backend that `source` names: `NAME` or `MODULE:ATTRIBUTE`, and options `,key=value`.

    `slots` and `context` are settings of the node. They become options where the backend takes such an option and
    `source` does not give it. Raises `ConfigError`, which names what is wrong.
    """
    name, _, text = source.partition(",")
    target = _find(name)
    options = _read_options(name, text)
    for key, value in (("slots", slots), ("context", context)):
        if value is not None and (takes_batches(target) or key in _parameters(target)):
            options.setdefault(key, str(value))
    if takes_batches(target):
        if not inspect.isclass(target):
            return _batch(name, lambda: cast("BatchFunction", target), options)
        own = {key: options.pop(key) for key in list(options) if key in _parameters(target)}
        bound = _bind(name, target, own)
        return _batch(name, lambda: cast("BatchFunction", target(**bound)), options)
    _check_class(name, target)
    bound = _bind(name, target, options)
    return lambda: _checked(name, target(**bound))


def _find(name: str) -> Callable[..., Any]:
    if (point := installed().get(name)) is not None:
        module, attribute = point.module, point.attr
    else:
        module, _, attribute = name.partition(":")
        if not module or not attribute:
            known = ", ".join(sorted(installed())) or "none"
            raise ConfigError(f"`model`: no package offers a backend {name!r}; offered are: {known}")
    try:
        with _working_directory():
            found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise ConfigError(f"`model`: {name}: there is no module {missing!r}") from error
        raise ConfigError(f"`model`: {name}: module {module!r} needs {missing!r}, which is not installed") from error
    except Exception as error:
        if fatal(error) is not None:
            raise
        raise ConfigError(f"`model`: {name}: module {module!r} cannot be imported: {_told(error)}") from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(f"`model`: {name}: module {module!r} has no {attribute!r}") from None
    if not callable(found):
        raise ConfigError(f"`model`: {name} is not a backend: it is a {type(found).__name__}, and cannot be called")
    return cast("Callable[..., Any]", found)


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Finds modules in the working directory, also where the command was not started with `python -m`."""
    here = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    yield


def _read_options(name: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for piece in filter(None, map(str.strip, text.split(","))):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key:
            raise ConfigError(f"`model`: {name}: option {piece!r} is no KEY=VALUE")
        if key in options:
            raise ConfigError(f"`model`: {name}: option {key!r} is given twice")
        options[key] = value
    return options


def _batch(name: str, make: Callable[[], BatchFunction], options: dict[str, str]) -> Callable[[], Backend]:
    settings = BatchSettings(**_bind(name, BatchSettings, options))
    return lambda: BatchBackend(make, settings)


def _parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(target).parameters)
    except (ValueError, TypeError):
        return {}


def _bind(name: str, target: Callable[..., Any], options: dict[str, str]) -> dict[str, Any]:
    """Converts the options to the types of the target's annotations. Raises `ConfigError`."""
    parameters = _parameters(target)
    named = [key for key, one in parameters.items() if one.kind in {one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD}]
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations can raise anything; without them, options are texts
        hints = {}
    bound: dict[str, Any] = {}
    for key, value in options.items():
        if key not in named and not anything:
            valid = ", ".join(named) or "none"
            raise ConfigError(f"`model`: {name}: there is no option {key!r}; valid are: {valid}")
        try:
            bound[key] = msgspec.convert(value, hints.get(key, str), strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"`model`: {name}: option {key}={value}: {error}") from None
        except TypeError:  # msgspec cannot convert to this type: pass the text
            bound[key] = value
    missing = [key for key in named if parameters[key].default is inspect.Parameter.empty and key not in bound]
    if missing:
        raise ConfigError(f"`model`: {name} needs the option {missing[0]!r}, as in {name},{missing[0]}=…")
    return bound


def _check_class(name: str, target: Callable[..., Any]) -> None:
    if inspect.isclass(target) and (lacks := _lacks(target)):
        raise ConfigError(f"`model`: {name} is not a backend: it has no {', '.join(lacks)}")


def _lacks(target: object) -> list[str]:
    streaming = hasattr(target, "generate") and not hasattr(target, "step")
    return [method for method in (_STREAMING if streaming else _STEPWISE) if not hasattr(target, method)]


def _checked(name: str, made: Any) -> Backend:
    if isinstance(made, StepwiseBackend | StreamingBackend):
        return made
    lacks = _lacks(made) or ["capabilities"]
    raise ConfigError(f"`model`: {name} is not a backend: its object has no {', '.join(lacks)}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
