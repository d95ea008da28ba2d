"""From what `--model` says to backends that can be made. `KINDS` is the one list of the built-in kinds.

To add a kind, write its backend and a `BackendKind` in a file of its own, and add a line to `KINDS`.
"""

import functools
import math
import os
from collections.abc import Callable, Collection, Mapping

import attrs

from llmactors.backends.base import Capabilities
from llmactors.backends.custom.kind import CUSTOM
from llmactors.backends.custom.load import installed
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext, FetchFiles
from llmactors.backends.llama.kind import LLAMA
from llmactors.backends.mock.kind import MOCK
from llmactors.backends.models.spec import ModelSpec, parse_models
from llmactors.backends.openai.kind import OPENAI
from llmactors.config import DeclaredModel, LlamaOptions, Settings, check_options
from llmactors.errors import ConfigError, ModelError

KINDS: Mapping[str, BackendKind] = {
    "mock": MOCK,
    "openai": OPENAI,
    "custom": CUSTOM,
    "llama": LLAMA,
}
"""The built-in kinds. The name of a kind with `name_model` is its prefix, as in `--model mock:OPTIONS`."""

OF_EVERY_KIND = ("slots", "context", "threads")
"""The options of a declared model that are no matter of llama.cpp alone."""
_PREFIXES = {name: kind.name_model for name, kind in KINDS.items() if kind.name_model is not None}


@attrs.frozen
class OnDemand:
    """How a model that is loaded on demand shares the memory of its node."""

    group: str = ""
    """At most one model of a group is in memory at a time. Empty: the model is in no group."""
    idle_s: float = math.inf
    """The model is unloaded after so long without a request."""
    capabilities: Capabilities | None = None
    """What the model can probably do, before its first load; None: nobody knows."""


def _no_memory() -> int:
    return 0


@attrs.frozen
class ServedModel:
    """One model and how to make its backend, as often as it must be made."""

    name: str
    make: BackendFactory
    fetch: FetchFiles | None = None
    """Downloads the files that the backend needs, before each start of a backend; None where it needs none."""
    measure: Callable[[], int | None] = _no_memory
    """Returns how many bytes of memory the model takes; None while its file is not there. Blocks for milliseconds.

    Raises `errors.ModelError` where the file is damaged."""
    on_demand: OnDemand | None = None
    """None for a model that is loaded at the start and stays in memory."""
    has_upstreams: bool = False
    """Whether other servers make the tokens."""


def read_models(texts: Collection[str], *, offered: Collection[str] | None = None) -> list[ModelSpec]:
    """Reads what `--model` says, and checks the options of built-in kinds. Loads nothing and fetches nothing.

    Args:
        texts: One text per model.
        offered: The names of backends that packages offer; None: those of the installed packages.

    Raises:
        ConfigError: A text names no model, an option is wrong, or two models have one name.
    """
    return parse_models(texts, prefixes=_PREFIXES, offered=installed() if offered is None else offered)


def serve_models(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> list[ServedModel]:
    """Prepares all models of `settings.model` and `settings.models`, and imports the backends of others. Downloads
    nothing.

    Raises:
        ConfigError: As `read_models`; or a backend of one's own, or the key of an upstream, is not there.
        ModelError: There is no such model.
    """
    context = BuildContext(settings=settings, environ=environ)
    always = [_served(spec, context) for spec in read_models(settings.model)]
    names = {model.name for model in always}
    if twice := sorted(names.intersection(settings.models)):
        raise ConfigError(f"`model` and `models` both have a model that is called {twice[0]!r}; rename one of them")
    return [*always, *(_declared(name, declared, context) for name, declared in settings.models.items())]


def foresee_models(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> dict[str, Capabilities | None]:
    """What the models of `settings.models` can probably do, for a gateway that has neither their files nor their keys.

    Raises `ConfigError` where a table names no model.
    """
    found: dict[str, Capabilities | None] = {}
    for name, declared in settings.models.items():
        spec, context = _spec(name, declared), _context(declared, BuildContext(settings=settings, environ=environ))
        kind = KINDS[spec.kind]
        try:
            found[name] = None if kind.foresee is None else kind.foresee(spec, context)
        except (ConfigError, ModelError):  # a worker has what is missing here, or says so
            found[name] = None
    return found


def _served(spec: ModelSpec, context: BuildContext) -> ServedModel:
    kind = KINDS[spec.kind]
    fetch = None if kind.fetch is None else kind.fetch(spec)
    measure = _no_memory if kind.measure is None else functools.partial(kind.measure, spec, context)
    return ServedModel(spec.name, kind.build(spec, context), fetch, measure, has_upstreams=kind.has_upstreams)


def _declared(name: str, declared: DeclaredModel, context: BuildContext) -> ServedModel:
    spec, context = _spec(name, declared), _context(declared, context)
    served = _served(spec, context)
    if (given := declared.memory_bytes) is not None:
        served = attrs.evolve(served, measure=lambda: given)
    if declared.pin:
        return served
    kind = KINDS[spec.kind]
    capabilities = None if kind.foresee is None else kind.foresee(spec, context)
    idle_s = math.inf if declared.idle_s is None else declared.idle_s
    return attrs.evolve(served, on_demand=OnDemand(declared.group, idle_s, capabilities))


def _spec(name: str, declared: DeclaredModel) -> ModelSpec:
    try:
        [spec] = read_models([f"{name}={declared.source or name}"])
    except ConfigError as error:
        raise ConfigError(f"`models.{name}.source`: {error.message}") from None
    given, of_source = declared.given(), spec.options.given()
    for option in given:
        if KINDS[spec.kind] is not LLAMA and option not in OF_EVERY_KIND:
            raise ConfigError(f"`models.{name}.{option}`: only models of llama.cpp take this option; leave it out")
        if option in of_source:
            raise ConfigError(f"`models.{name}.{option}`: `source` has this option too; leave one of them out")
    options = LlamaOptions(**{**of_source, **given})
    try:
        check_options(options)
    except ConfigError as error:
        raise ConfigError(f"`models.{name}`: {error.message}") from None
    return attrs.evolve(spec, options=options)


def _context(declared: DeclaredModel, context: BuildContext) -> BuildContext:
    """The context with the options of one model in place of those of the node."""
    own = {key: getattr(declared, key) for key in OF_EVERY_KIND}
    given = {key: value for key, value in own.items() if value is not None}
    return attrs.evolve(context, settings=attrs.evolve(context.settings, **given))


def serve_model(text: str) -> ServedModel:
    """Prepares the one model that `--model TEXT` would, with the default settings. Raises as `serve_models`."""
    [model] = serve_models(Settings(model=(text,)))
    return model
