"""One setting, and what derives from its declaration: key, variable, flag, checks and messages."""

import typing
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any

import attrs
import msgspec

from llmactors.config.declaration import METADATA, Declaration
from llmactors.config.declared_models import DeclaredModel, convert_declared
from llmactors.config.declared_prices import DeclaredPrice, convert_prices
from llmactors.config.masks import MASKED
from llmactors.errors import ConfigError

PREFIX = "LLMACTORS_"
"""The beginning of each variable of ours."""
_TABLES: Mapping[type, Callable[[object, str], Mapping[str, Any]]] = {
    DeclaredModel: convert_declared,
    DeclaredPrice: convert_prices,
}
"""How the tables of a setting are read, by what one table declares."""
_UNITS = {"s": "seconds"}
"""The units that have a longer name in sentences."""


@attrs.frozen(kw_only=True, eq=False)
class Setting(Declaration):
    """One setting, with all that its name and its type say."""

    name: str
    """The field of `Settings`, and the key of a configuration file."""
    type: Any
    """The type of the field, with `None` where the setting may have no value."""
    kind: Any
    """The type of a value, without what `meta` says of it."""
    meta: msgspec.Meta | None
    """The bounds of a value, its unit, or the description of good values."""

    @property
    def variable(self) -> str:
        """The environment variable that gives the value."""
        return PREFIX + self.name.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        """All variables that give the value; the first one that is there wins."""
        return (self.variable, self.other_variable) if self.other_variable else (self.variable,)

    @property
    def flag(self) -> str:
        """The flag of the commands that take one."""
        return "--" + self.name.replace("_", "-")

    @property
    def value_type(self) -> Any:
        """`int`, `float`, `bool`, `str`, `list[str]` or a `Literal`."""
        return list[str] if self.is_list else self.kind

    @property
    def is_list(self) -> bool:
        """Whether the setting may have several values."""
        return typing.get_origin(self.kind) is tuple

    @property
    def is_table(self) -> bool:
        """Whether the value is made of tables of a configuration file, so that no flag can give it."""
        return typing.get_origin(self.kind) is dict

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from; empty where others are good too."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else ()

    @property
    def unit(self) -> str:
        """The unit of the value, as in `20 s`; empty where the value has no unit."""
        return self._extra("unit") or ""

    @property
    def value_name(self) -> str | None:
        """What help writes for the flag's value. None: nothing better is known than the type's name."""
        return self.placeholder or self._extra("placeholder")

    @property
    def default_text(self) -> str:
        """The default as help and handbook show it; empty where there is none."""
        if self.default is None or self.default in ((), {}):
            return ""
        if isinstance(self.default, bool):
            return "true" if self.default else "false"
        value = ", ".join(self.default) if self.is_list else self.default
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        return f"{text} {self.unit}".rstrip()

    def convert(self, value: object) -> Any:
        """`value`, which may be text, as the type that the setting has. Raises `ConfigError` that names the setting."""
        if self.is_table:
            return _TABLES[typing.get_args(self.kind)[1]](value, self.name)
        if self.is_list and isinstance(value, str):
            value = (value,)
        try:
            # Not strict: variables and flags are text, and "5" is a good number there.
            converted = msgspec.convert(value, self.type, strict=False)
        except msgspec.ValidationError:
            raise ConfigError(self._refusal(value)) from None
        if self.check is not None and converted is not None:
            self.check(converted)
        return converted

    def shown(self, value: Any) -> Any:
        """`value` with every secret in it covered."""
        if value is None:
            return None
        if self.secret:
            return MASKED
        if self.is_table:
            tables = msgspec.to_builtins(value)
            return {name: {key: self._masked(each) for key, each in table.items()} for name, table in tables.items()}
        if self.mask is None:
            return value
        return tuple(map(self.mask, value)) if self.is_list else self.mask(value)

    def _masked(self, value: Any) -> Any:
        return self.mask(value) if self.mask is not None and isinstance(value, str) else value

    def _refusal(self, value: object) -> str:
        if self.secret or self.mask:
            given = ""
        elif isinstance(value, dict):
            given = ", not a table"
        else:
            given = f", not {list(value) if isinstance(value, tuple) else value!r}"
        return f"`{self.name}` must be {self.requirement}{given}"

    @property
    def requirement(self) -> str:
        """The rule for a value, as the end of a sentence with "must be"."""
        if self.meta is not None and self.meta.description is not None:
            return self.meta.description
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if self.is_table:
            return f"tables, as in [{self.name}.NAME]"
        if self.kind in {int, float}:
            unit = f" of {_UNITS.get(self.unit, self.unit)}" if self.unit else ""
            return f"a {'whole ' if self.kind is int else ''}number{unit}{_range(self.meta)}"
        return "a text, or a list of texts" if self.is_list else "a text"

    def _extra(self, key: str) -> str | None:
        extra = self.meta and self.meta.extra
        return extra.get(key) if extra else None


def settings_of(cls: type) -> Mapping[str, Setting]:
    """All settings that the fields of `cls` declare, by name, in the order of the fields."""
    types = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _setting(field, types[field.name]) for field in attrs.fields(cls)}


def _setting(field: "attrs.Attribute[Any]", type_: Any) -> Setting:
    declared: Declaration = field.metadata[METADATA]
    some = [each for each in typing.get_args(type_) if each is not NoneType]
    kind, meta = some[0] if NoneType in typing.get_args(type_) else type_, None
    if typing.get_origin(kind) is Annotated:
        kind, meta = typing.get_args(kind)
    return Setting(name=field.name, type=type_, kind=kind, meta=meta, **attrs.asdict(declared, recurse=False))


def _range(meta: msgspec.Meta | None) -> str:
    if meta is None:
        return ""
    return f" above 0, at most {meta.le}" if meta.gt is not None else f" from {meta.ge} to {meta.le}"
