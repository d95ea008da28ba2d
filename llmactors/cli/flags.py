"""Settings as the flags of commands, made from their declarations."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

from cyclopts import Group, Parameter, Token

from llmactors.config import SETTINGS, Configuration, Setting, configure

P = ParamSpec("P")

EVERY_COMMAND = "*"
"""In place of a command's name: a flag for each setting."""
_CONFIG = "config"
_CONFIG_FLAG = Annotated[
    Path | None, Parameter(help="A TOML file with settings. Flags and variables override the file.")
]


def with_settings(command: str) -> Callable[[Callable[Concatenate[Configuration, P], int]], Callable[..., int]]:
    """Gives a function the settings that `command` takes as flags, and `--config`.

    The function's first parameter, a `Configuration`, becomes one keyword for each of these flags. All settings are
    read and checked before the function runs; a wrong one raises `ConfigError`.
    """
    settings = [each for each in SETTINGS.values() if command in each.commands or _is_flag_of_all(command, each)]

    def decorate(function: Callable[Concatenate[Configuration, P], int]) -> Callable[..., int]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            given: dict[str, Any] = {each.name: kwargs.pop(each.name, None) for each in settings}
            file = kwargs.pop(_CONFIG, None)
            return function(configure(given, file=file if isinstance(file, Path) else None), *args, **kwargs)

        _, *own = inspect.signature(function).parameters.values()
        added = [_keyword(_CONFIG, _CONFIG_FLAG), *(_keyword(each.name, _flag(each)) for each in settings)]
        parameters = [*own, *added]
        run.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
        return run

    return decorate


def _is_flag_of_all(command: str, setting: Setting) -> bool:
    return command == EVERY_COMMAND and not setting.secret and not setting.is_table


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag(setting: Setting) -> Any:
    """The annotation from which cyclopts makes the flag. The value is checked where those of other sources are."""
    value_name = "|".join(setting.choices) or setting.value_name
    parameter = Parameter(
        help=setting.help,
        group=_group(setting.group),
        show_default=setting.default_text or False,
        negative=None if setting.value_type is bool else (),
        metavar=f"{value_name}..." if setting.is_list else value_name,
        converter=None if setting.value_type in {bool, list[str]} else _as_typed,
    )
    # None, because a flag may be left out. In a process that has loaded pydantic, cyclopts checks defaults too.
    kind: Any = (str if setting.choices else setting.value_type) | None
    return Annotated[kind, parameter]


@functools.cache
def _group(name: str) -> Group:
    order = list(dict.fromkeys(setting.group for setting in SETTINGS.values()))
    return Group(name, sort_key=order.index(name))


def _as_typed(_: type, tokens: list[Token]) -> str:
    """The text of a flag, unconverted."""
    return tokens[0].value
