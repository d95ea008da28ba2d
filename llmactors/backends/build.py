"""From what `--model` says to backends that can be made. `KINDS` is the one list of the built-in kinds.

To add a kind, write its backend and a `BackendKind` in a file of its own, and add a line to `KINDS`.
"""

import os
from collections.abc import Collection, Mapping

import attrs

from llmactors.backends.custom.kind import CUSTOM
from llmactors.backends.custom.load import installed
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext, FetchFiles
from llmactors.backends.llama.kind import LLAMA
from llmactors.backends.mock.kind import MOCK
from llmactors.backends.models.spec import ModelSpec, parse_models
from llmactors.backends.openai.kind import OPENAI
from llmactors.config import Settings

KINDS: Mapping[str, BackendKind] = {
    "mock": MOCK,
    "openai": OPENAI,
    "custom": CUSTOM,
    "llama": LLAMA,
}
"""The built-in kinds. The name of a kind with `name_model` is its prefix, as in `--model mock:OPTIONS`."""

_PREFIXES = {name: kind.name_model for name, kind in KINDS.items() if kind.name_model is not None}


@attrs.frozen
class ServedModel:
    """One model and how to make its backend, as often as it must be made."""

    name: str
    make: BackendFactory
    fetch: FetchFiles | None = None
    """Downloads the files that the backend needs, before each start of a backend; None where it needs none."""


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
    """Prepares all models of `settings.model`, and imports the backends of others. Downloads nothing.

    Raises:
        ConfigError: As `read_models`; or a backend of one's own, or the key of an upstream, is not there.
        ModelError: There is no such model.
    """
    context = BuildContext(settings=settings, environ=environ)
    return [_served(spec, context) for spec in read_models(settings.model)]


def _served(spec: ModelSpec, context: BuildContext) -> ServedModel:
    kind = KINDS[spec.kind]
    return ServedModel(spec.name, kind.build(spec, context), None if kind.fetch is None else kind.fetch(spec))


def serve_model(text: str) -> ServedModel:
    """Prepares the one model that `--model TEXT` would, with the default settings. Raises as `serve_models`."""
    [model] = serve_models(Settings(model=(text,)))
    return model
