"""What `build` knows of each kind of built-in backend: how it names a model, and how it makes a backend."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from llmactors.backends.base import Backend
from llmactors.backends.models.spec import ModelSpec, NameModel
from llmactors.config import Settings

Fetch = Callable[[str], Path]
"""Gives the file of a model by its name, and downloads the file where it is missing. Raises `errors.ModelError`."""

BackendFactory = Callable[[], Backend]
"""Makes the backend: for the first incarnation of its actor, and again after each crash."""


@attrs.frozen(kw_only=True)
class BuildContext:
    """What a backend is made from, beside the model's spec."""

    settings: Settings
    """The node's settings, of which `slots`, `context`, `threads` and `hung_s` concern backends."""
    fetch: Fetch
    environ: Mapping[str, str]
    """The environment's variables, for keys of other services."""


@attrs.frozen
class BackendKind:
    """One kind of backend. Each kind defines its own beside the backend, and `build.KINDS` lists it."""

    build: Callable[[ModelSpec, BuildContext], BackendFactory]
    """Raises `errors.ConfigError` or `errors.ModelError` for a model that can never be served."""
    name_model: NameModel | None = None
    """For a kind that `--model` names by a prefix; None for one that is known by the form of what it says."""
