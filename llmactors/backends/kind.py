"""What `build` knows of each kind of built-in backend: how it names a model, and how it makes a backend."""

from collections.abc import Callable, Mapping

import attrs

from llmactors.backends.base import Backend, Capabilities
from llmactors.backends.models.download import Progress
from llmactors.backends.models.spec import ModelSpec, NameModel
from llmactors.config import Settings

FetchFiles = Callable[[Progress], object]
"""Downloads the files of a model that are missing. Blocks, so it is called in a thread. Raises `errors.ModelError`."""

BackendFactory = Callable[[], Backend]
"""Makes the backend: for the first incarnation of its actor, and again after each crash."""


@attrs.frozen(kw_only=True)
class BuildContext:
    """What a backend is made from, beside the model's spec."""

    settings: Settings
    """The node's settings, of which `slots`, `context`, `threads` and `hung_s` concern backends."""
    environ: Mapping[str, str]
    """The environment's variables, for keys of other services."""


@attrs.frozen
class BackendKind:
    """One kind of backend. Each kind defines its own beside the backend, and `build.KINDS` lists it."""

    build: Callable[[ModelSpec, BuildContext], BackendFactory]
    """Raises `errors.ConfigError` or `errors.ModelError` for a model that can never be served."""
    fetch: Callable[[ModelSpec], FetchFiles] | None = None
    """For a kind whose models have files: how the files of one model are downloaded."""
    measure: Callable[[ModelSpec, BuildContext], int | None] | None = None
    """Estimates how many bytes of memory a model takes; None while the model's file is not there. Raises
    `errors.ModelError` for a damaged file. A model of a kind without this takes no memory that is worth counting."""
    foresee: Callable[[ModelSpec, BuildContext], Capabilities | None] | None = None
    """What a model can probably do, before the model was loaded for the first time; None: nobody knows."""
    has_upstreams: bool = False
    """Whether other servers make the tokens, which may be away while this node works."""
    name_model: NameModel | None = None
    """For a kind that `--model` names by a prefix; None for one that is known by the form of what it says."""
