"""Models that are declared in a configuration file, and loaded when requests wait for them: `[models.NAME]`."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from llmactors.config.declaration import PositiveSeconds
from llmactors.config.llama_options import LlamaOptions, check_options
from llmactors.config.nearest import nearest_or_all
from llmactors.config.sizes import parse_size
from llmactors.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_MODELS = 256


class DeclaredModel(LlamaOptions, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a table `[models.NAME]` says of one model.

    `slots`, `context` and `threads` concern models of every kind, and the other options of llama.cpp its models only.
    """

    source: Annotated[str, msgspec.Meta(min_length=1)] = ""
    """What the model is, in the words of the setting `model` without an alias. Empty: the table's own name."""
    memory: str | int | None = None
    """The memory that the model takes, as in `2GiB`. None: an estimate from the model's file."""
    idle_s: PositiveSeconds | None = None
    """The model is unloaded after so long without a request. None: only when another model needs the memory."""
    pin: bool = False
    """Whether the model is loaded at the start, and stays in memory."""
    group: str = ""
    """At most one model of a group is in memory at a time."""

    @property
    def memory_bytes(self) -> int | None:
        """The declared memory in bytes; None where none is declared. Raises `ConfigError` for what is no size."""
        return None if self.memory is None else parse_size(self.memory, "memory")


def convert_declared(value: object, name: str) -> dict[str, DeclaredModel]:
    """The models that the tables of the setting `name` declare. Raises `ConfigError` that names table and key."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"`{name}` must be tables, as in [{name}.my-model], not {value!r}")
    if len(value) > MAX_MODELS:
        raise ConfigError(f"`{name}` must be at most {MAX_MODELS} tables, not {len(value)}")
    return {model: _convert_one(f"{name}.{model}", model, table) for model, table in value.items()}


def _convert_one(path: str, model: str, table: Any) -> DeclaredModel:
    if isinstance(table, DeclaredModel):
        return table
    if not _NAME.fullmatch(model):
        raise ConfigError(f"`{path}`: a name has 1 to 64 letters, digits, dots, dashes or underscores")
    if not isinstance(table, Mapping):
        raise ConfigError(f"`{path}` must be a table with the keys of one model, not {table!r}")
    for key in table:
        if key not in DeclaredModel.__struct_fields__:
            raise ConfigError(
                f"`{path}`: there is no key `{key}`{nearest_or_all(key, DeclaredModel.__struct_fields__)}"
            )
    try:
        declared = msgspec.convert(table, DeclaredModel, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"`{path}`: {error}") from None
    if declared.memory is not None:
        parse_size(declared.memory, f"{path}.memory")
    try:
        check_options(declared)
    except ConfigError as error:
        raise ConfigError(f"`{path}`: {error.message}") from None
    if declared.pin and (declared.group or declared.idle_s is not None):
        raise ConfigError(f"`{path}`: a pinned model stays in memory; leave out `group` and `idle_s`, or `pin`")
    return declared
