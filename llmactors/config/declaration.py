"""How a setting is declared: once, as a field of `Settings`. Its key, variable, flags, help and checks derive from it.

The type says which values are good. `msgspec` reads it, converts text to it, and refuses everything else.
"""

import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import attrs
import msgspec

from llmactors.config.masks import MASKED
from llmactors.errors import ConfigError

PREFIX = "LLMACTORS_"
_MAX = 10**9
"""The largest number that a setting takes. As seconds, thirty years: no moment in time overflows."""
_METADATA = "llmactors"

Seconds = Annotated[float, msgspec.Meta(ge=0, le=_MAX, extra={"unit": "s", "placeholder": "SECONDS"})]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=_MAX, extra={"unit": "s", "placeholder": "SECONDS"})]
Count = Annotated[int, msgspec.Meta(ge=1, le=_MAX, extra={"placeholder": "COUNT"})]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=_MAX, extra={"placeholder": "COUNT"})]
Tokens = Annotated[int, msgspec.Meta(ge=16, le=_MAX, extra={"unit": "tokens", "placeholder": "TOKENS"})]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=_MAX, extra={"unit": "bytes", "placeholder": "BYTES"})]
NodeName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
        description="1 to 64 letters, digits, dots, dashes or underscores",
        extra={"placeholder": "NAME"},
    ),
]
FilledText = Annotated[str, msgspec.Meta(min_length=1, description="a text that is not empty")]


@attrs.frozen(kw_only=True)
class Declaration:
    """What `setting` keeps with a field of `Settings`."""

    help: str
    group: str
    commands: frozenset[str]
    placeholder: str | None
    secret: bool
    inherited: bool
    other_variable: str | None
    mask: Callable[[str], str] | None
    check: Callable[[Any], object] | None


def setting(
    default: object,
    help: str,  # noqa: A002 - what everybody calls it
    *,
    group: str,
    commands: frozenset[str],
    placeholder: str | None = None,
    secret: bool = False,
    inherited: bool = True,
    other_variable: str | None = None,
    mask: Callable[[str], str] | None = None,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """Declares one setting, as a field of `Settings`. The field's name is the setting's, its type says what is good.

    Args:
        default: the value where nobody gives another one.
        help: what the setting does, in a sentence or two. A flag's help and the handbook say the same.
        group: the heading under which help and handbook show the setting.
        commands: the commands that take the setting as a flag.
        placeholder: what help writes for the flag's value, as in `--bind HOST:PORT`; by default the type's.
        secret: whether no part of the value may be shown. A secret never becomes a flag: everybody can read flags.
        inherited: whether the processes that `up` starts get the value too.
        other_variable: one more variable that gives the value; the one named after the setting goes first.
        mask: how a text is shown that has secrets in it.
        check: raises `ConfigError` for a value that has the right type and is still wrong.
    """
    declaration = Declaration(
        help=help,
        group=group,
        commands=commands,
        placeholder=placeholder,
        secret=secret,
        inherited=inherited,
        other_variable=other_variable,
        mask=mask,
        check=check,
    )
    return attrs.field(default=default, repr=not (secret or mask), metadata={_METADATA: declaration})


@attrs.frozen(kw_only=True)
class Setting(Declaration):
    """One setting, with all that its name and its type say."""

    name: str
    """The field of `Settings`, and the key of a configuration file."""
    type: Any
    default: Any

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
        """The plain type of one value: `int`, `float`, `bool`, `str`, `list[str]` or a `Literal`."""
        kind, _ = self._peeled()
        return list[str] if self.is_list else kind

    @property
    def is_list(self) -> bool:
        """Whether the setting may have several values."""
        return typing.get_origin(self._peeled()[0]) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from; empty where others are good too."""
        kind, _ = self._peeled()
        return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()

    @property
    def unit(self) -> str:
        """As in `20 s`; empty where the value has none."""
        return str(self._extra("unit") or "")

    @property
    def value_name(self) -> str | None:
        """What help writes for the flag's value. None: nothing better is known than the type's name."""
        return self.placeholder or self._extra("placeholder")

    @property
    def default_text(self) -> str:
        """The default as help and handbook show it; empty where there is none."""
        if self.default in (None, ()):
            return ""
        if isinstance(self.default, bool):
            return "true" if self.default else "false"
        value = ", ".join(self.default) if self.is_list else self.default
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{text} {self.unit}".rstrip()

    def convert(self, value: object) -> Any:
        """`value`, which may be text, as the type that the setting has. Raises `ConfigError` that names the setting."""
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
        if self.mask is None:
            return value
        return tuple(map(self.mask, value)) if self.is_list else self.mask(value)

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
        """What a value must be, to follow "must be"."""
        kind, meta = self._peeled()
        if meta is not None and meta.description is not None:
            return meta.description
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if kind is bool:
            return "true or false"
        if kind is int or kind is float:
            return ("a whole number" if kind is int else "a number of seconds") + _range(meta)
        return "a text, or a list of texts" if self.is_list else "a text"

    def _extra(self, key: str) -> Any:
        _, meta = self._peeled()
        return None if meta is None or meta.extra is None else meta.extra.get(key)

    def _peeled(self) -> tuple[Any, msgspec.Meta | None]:
        """The type without `| None` and without what it says of its values, and that."""
        kinds = [kind for kind in typing.get_args(self.type) if kind is not type(None)]
        kind = kinds[0] if type(None) in typing.get_args(self.type) else self.type
        if typing.get_origin(kind) is Annotated:
            return typing.get_args(kind)[0], kind.__metadata__[0]
        return kind, None


def settings_of(cls: type) -> Mapping[str, Setting]:
    """All settings that the fields of `cls` declare, by name, in the order of the fields."""
    types = typing.get_type_hints(cls, include_extras=True)
    return {
        field.name: Setting(
            name=field.name,
            type=types[field.name],
            default=field.default,
            **attrs.asdict(field.metadata[_METADATA], recurse=False),
        )
        for field in attrs.fields(cls)
    }


def _range(meta: msgspec.Meta | None) -> str:
    if meta is None:
        return ""
    return f" above 0, at most {meta.le}" if meta.gt is not None else f" from {meta.ge} to {meta.le}"
