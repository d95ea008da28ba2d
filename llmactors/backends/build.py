"""From what `--model` says to backends that can be made. `KINDS` is the one list of the built-in kinds.

To add a kind, write its backend and a `BackendKind` in a file of its own, and add a line to `KINDS`.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from llmactors.backends.custom.kind import CUSTOM
from llmactors.backends.custom.load import installed
from llmactors.backends.kind import BackendFactory, BackendKind, BuildContext, Fetch
from llmactors.backends.llama.kind import LLAMA
from llmactors.backends.mock.kind import MOCK
from llmactors.backends.models.download import ensure_model
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


def read_models(texts: Collection[str], *, offered: Collection[str] | None = None) -> list[ModelSpec]:
    """Reads what `--model` says, and checks the options of built-in kinds. Loads nothing and fetches nothing.

    Args:
        texts: One text per model.
        offered: The names of backends that packages offer; None: those of the installed packages.

    Raises:
        ConfigError: A text names no model, an option is wrong, or two models have one name.
    """
    return parse_models(texts, prefixes=_PREFIXES, offered=installed() if offered is None else offered)


def fetch_quietly(source: str) -> Path:
    """Gives the file of a model, after a download where it is missing. Raises `ModelError`."""
    return ensure_model(source).path


def serve_models(
    settings: Settings, *, fetch: Fetch = fetch_quietly, environ: Mapping[str, str] = os.environ
) -> list[ServedModel]:
    """Prepares all models of `settings.model`: fetches missing files and imports the backends of others.

    Raises:
        ConfigError: As `read_models`; or a backend of one's own, or the key of an upstream, is not there.
        ModelError: A model's file cannot be had.
    """
    context = BuildContext(settings=settings, fetch=fetch, environ=environ)
    return [ServedModel(spec.name, KINDS[spec.kind].build(spec, context)) for spec in read_models(settings.model)]


def serve_model(text: str) -> ServedModel:
    """Prepares the one model that `--model TEXT` would, with the default settings. Raises as `serve_models`."""
    [model] = serve_models(Settings(model=(text,)))
    return model
