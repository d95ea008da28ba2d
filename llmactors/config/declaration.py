"""How a setting is declared: once, as a field of `Settings`.

The field's type says which values are good. `msgspec` reads the type, converts text to it, and refuses everything else.
"""

from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import attrs
import msgspec

_MAX = 10**9
"""The largest number that a setting takes. In seconds these are thirty years, so no time in the future overflows."""
METADATA = "llmactors"
"""The key of the declaration in the metadata of a field."""

P = ParamSpec("P")

Seconds = Annotated[float, msgspec.Meta(ge=0, le=_MAX, extra={"unit": "s", "placeholder": "SECONDS"})]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0, le=_MAX, extra={"unit": "s", "placeholder": "SECONDS"})]
Count = Annotated[int, msgspec.Meta(ge=1, le=_MAX, extra={"placeholder": "COUNT"})]
CountOrZero = Annotated[int, msgspec.Meta(ge=0, le=_MAX, extra={"placeholder": "COUNT"})]
Tokens = Annotated[int, msgspec.Meta(ge=16, le=_MAX, extra={"unit": "tokens", "placeholder": "TOKENS"})]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=_MAX, extra={"unit": "bytes", "placeholder": "BYTES"})]
ImageBytes = Annotated[int, msgspec.Meta(ge=1, le=16 * 2**20, extra={"unit": "bytes", "placeholder": "BYTES"})]
"""By default, Redis closes a connection for which more than 32 MiB wait, and a request is one reply."""
NodeName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9._-]{1,64}\Z",
        description="1 to 64 letters, digits, dots, dashes or underscores",
        extra={"placeholder": "NAME"},
    ),
]
FilledText = Annotated[str, msgspec.Meta(min_length=1, description="a text that is not empty")]


@attrs.frozen(eq=False)
class Declaration:
    """What a field of `Settings` says of its setting, beside name and type."""

    default: Any
    """The value where nobody gives another one."""
    help: str
    """What the setting does, in a sentence or two. The help of a flag and the handbook both say so."""
    group: str = attrs.field(kw_only=True)
    """The heading under which help and handbook show the setting."""
    commands: frozenset[str] = attrs.field(kw_only=True)
    """The commands that take the setting as a flag."""
    placeholder: str | None = attrs.field(default=None, kw_only=True)
    """What help writes for the value, as in `--bind HOST:PORT`. None: what the type says."""
    secret: bool = attrs.field(default=False, kw_only=True)
    """Whether the value is never shown. A secret is no flag of any command: everybody can read flags."""
    inherited: bool = attrs.field(default=True, kw_only=True)
    """Whether the processes that `up` starts have the same value."""
    reloadable: bool = attrs.field(default=False, kw_only=True)
    """Whether a reload changes the setting of a running node. The part that uses the setting asks `LiveSettings`."""
    other_variable: str | None = attrs.field(default=None, kw_only=True)
    """One more variable that gives the value. The variable of the setting's own name goes before it."""
    mask: Callable[[str], str] | None = attrs.field(default=None, kw_only=True)
    """How a text with secrets in it is shown."""
    check: Callable[[Any], object] | None = attrs.field(default=None, kw_only=True)
    """Raises `ConfigError` for a value that has the right type and is wrong all the same."""


def _makes_field(declaration: Callable[P, Declaration]) -> Callable[P, Any]:
    def make(*args: P.args, **kwargs: P.kwargs) -> Any:
        made = declaration(*args, **kwargs)
        is_shown = not made.secret and made.mask is None
        return attrs.field(default=made.default, repr=is_shown, metadata={METADATA: made})

    return make


setting = _makes_field(Declaration)
"""Declares a setting: a field of `Settings` takes what `Declaration` takes, and adds its name and its type."""
