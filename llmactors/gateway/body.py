"""How the JSON bodies of requests are read, on every route: msgspec converts them to frozen attrs classes.

An error names the field.
"""

import codecs
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar, cast

import attrs
import msgspec
import trio

from llmactors.errors import InvalidRequest, TooLarge, UnsupportedEncoding
from llmactors.gateway.answer_rules import AnswerRules
from llmactors.gateway.settings import GatewaySettings
from llmactors.http.exchange import Exchange
from llmactors.http.throttle import BurstThrottle
from llmactors.messages import GenerateRequest

T = TypeVar("T")

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
MAX_STOPS = 16
MAX_ITEMS = 50_000
"""The number of lists, objects and texts in one body, which take less than 10 ms to parse. Numbers take little."""
MAX_ESCAPES = 600_000
"""The number of backslashes in one body. A body of 1 MiB in which every other character is one has fewer."""
MAX_FIELDS = 256
LARGE = 16 * 1024
"""Of bodies that have at least this length, in bytes, one is parsed in each pass of the scheduler."""
MAX_STOP_CHARS = 256
_NO_MARKS = bytes(set(range(256)) - set(b'"[{'))


class GenerationBody(Protocol):
    """A body of any API family that asks for one generation."""

    @property
    def model(self) -> str | None:
        """The model's name; None for the node's first model."""
        ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def priority(self) -> int:
        """The class that the client asks for."""
        ...

    @property
    def prompt_chars(self) -> int:
        """The number of characters of the whole prompt."""
        ...

    @property
    def rules(self) -> AnswerRules | None:
        """What the client wants of the form of the answer; None for free text. Equal in all bodies of one call."""
        ...

    @property
    def field_names(self) -> Mapping[str, str]:
        """The names that the client sent for fields of the request, where the names differ: for refusals."""
        ...

    def to_request(
        self,
        request_id: str,
        *,
        model: str,
        tenant: str,
        priority: int,
        weight: float,
        resume_grace_s: float,
        session: str = "",
    ) -> GenerateRequest:
        """The request for the ledger. `session` is what the client calls the conversation; empty for no name."""
        ...


class BodyReader:
    """Reads JSON bodies. To parse a large body takes milliseconds, so each pass of the scheduler parses only one."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._large = BurstThrottle(burst=1, per_pass=1)

    def __repr__(self) -> str:
        return f"<BodyReader {self._large!r}>"

    async def read(
        self, exchange: Exchange, image_chars: Callable[[Mapping[str, Any]], int] | None = None
    ) -> dict[str, Any]:
        """The whole body of a request as a JSON object. Raises as `Exchange.body` and `parse_object`.

        `image_chars` returns how much of the fields of a body is images, on a route and for a caller that may send
        images; None for others. `max_body_bytes` bounds what is left of the body without the images.
        """
        encoding = exchange.header(b"content-encoding")
        if encoding is not None and encoding.lower() not in {"", "identity"}:
            raise UnsupportedEncoding("the body is compressed: send it without `Content-Encoding`")
        limits = self._settings
        small = limits.max_body_bytes
        if image_chars is None:
            return await self.parse(await exchange.body(max_bytes=small, within_s=limits.body_s))
        most = max(small, limits.max_image_body_bytes)
        data = await exchange.body(max_bytes=most, within_s=limits.body_s, large_bytes=small)
        fields = await self.parse(data)
        if len(data) > small and (rest := len(data) - image_chars(fields)) > small:
            raise TooLarge(f"the body has {rest} bytes without its images; at most {small} are accepted")
        return fields

    async def parse(self, data: bytes | str, *, what: str = "the body") -> dict[str, Any]:
        """`data` as a JSON object. Raises as `parse_object`."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogatepass")  # the decoder refuses surrogates
        if len(data) > LARGE:
            await self._large.enter()
            await _check_items(data, what)
        return parse_object(data, what=what)


async def _check_items(data: bytes, what: str) -> None:
    """Raises `InvalidRequest` for too many lists, objects and texts, each of which costs far more than its bytes.

    What stands inside of a text is not counted. Nothing is parsed for this: that would be the cost to avoid. A
    checkpoint comes after each part of the work.
    """
    count = {}
    for mark in (b"\\", b'"', b"[", b"{"):
        count[mark] = data.count(mark)
        await trio.lowlevel.checkpoint()
    escapes = count[b"\\"]
    if escapes > MAX_ESCAPES:
        raise InvalidRequest(f"{what} has {escapes} backslashes; at most {MAX_ESCAPES} are accepted")
    at_most = count[b'"'] // 2 + count[b"["] + count[b"{"]
    if at_most <= MAX_ITEMS:
        return
    # What is left of the body: brackets, and the quotes at the beginnings and ends of texts.
    marks = data.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
    items = marks.count(b'"') // 2
    if items <= MAX_ITEMS:
        items += sum(map(len, marks.split(b'"')[::2]))
    if items > MAX_ITEMS:
        raise InvalidRequest(f"{what} has {items} or more lists, objects and texts; at most {MAX_ITEMS} are accepted")
    await trio.lowlevel.checkpoint()


def parse_object(data: bytes, *, what: str = "the body") -> dict[str, Any]:
    """A JSON object. If a key comes twice, the last one counts. Raises `InvalidRequest` for anything else."""
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data:
        raise InvalidRequest(f"{what} is empty; it must be a JSON object")
    try:
        value = msgspec.json.decode(data)
    except UnicodeError:
        raise InvalidRequest(f"{what} is not valid UTF-8") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply") from None
    except msgspec.DecodeError as error:
        if "utf-8" in str(error).lower():
            raise InvalidRequest(f"{what} is not valid UTF-8") from None
        raise InvalidRequest(f"{what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be a JSON object, not {_kind(value)}")
    if len(value) > MAX_FIELDS:
        raise InvalidRequest(f"{what} has {len(value)} fields; at most {MAX_FIELDS} are accepted")
    return value


def convert(fields: dict[str, Any], kind: type[T], *, strict: bool = True) -> T:
    """`fields` as a `kind`. Raises `InvalidRequest` that names the first field which is unknown or wrong.

    Without `strict`, a text may stand for a number, as in the query of a URL.
    """
    known = _field_names(cast("type[attrs.AttrsInstance]", kind))
    if not known.issuperset(fields):
        unknown = sorted(fields.keys() - known)
        names = ", ".join(f"`{_clip(name)}`" for name in unknown[:5])
        raise InvalidRequest(f"unknown field {names}; known fields are: {', '.join(sorted(known))}")
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        raise InvalidRequest(f"`{field}`: {text}" if field else text) from None


@functools.cache
def _field_names(kind: type[attrs.AttrsInstance]) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(kind))


def deadline_of(header: str | None) -> int | None:
    """`X-Request-Deadline`: milliseconds since 1970. Raises `InvalidRequest`."""
    if not header:
        return None
    if not header.isascii() or not header.isdigit() or len(header) > 15:
        raise InvalidRequest("`X-Request-Deadline` takes milliseconds since 1970, a whole number")
    return int(header)


def clipped(value: object) -> str:
    """A client's value, shortened for an error message: the beginning of a text, or the type of another value."""
    return repr(_clip(value)) if isinstance(value, str) else _kind(value)


def _kind(value: object) -> str:
    kinds = {list: "a list", dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _clip(name: str) -> str:
    return name if len(name) <= 40 else name[:40] + "…"
