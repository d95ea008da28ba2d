"""What clients may send, and how it is read: msgspec onto frozen attrs classes, with errors that name the field."""

import time
from typing import Annotated, Any, Protocol, TypeVar, cast

import attrs
import msgspec

from llmactors.errors import InvalidRequest
from llmactors.messages import GenerateRequest

T = TypeVar("T")

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
MAX_STOPS = 16
MAX_STOP_CHARS = 256


class Ask(Protocol):
    """What somebody wants generated, in whatever words they asked for it."""

    @property
    def model(self) -> str | None:
        """None: the first one."""
        ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def prompt_chars(self) -> int:
        """The length of all that it says."""
        ...

    def to_request(self, request_id: str, *, model: str, tenant: str, resume_grace_s: float) -> GenerateRequest:
        """The request that goes to the ledger."""
        ...


@attrs.frozen(kw_only=True)
class GenerateBody:
    """The body of `POST /v1/generate`."""

    prompt: NonEmpty
    model: NonEmpty | None = None
    """None: the node's first model."""
    max_tokens: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] = 64
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.7
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None
    stop: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]
        | Annotated[
            list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STOP_CHARS)]],
            msgspec.Meta(max_length=MAX_STOPS),
        ]
        | None
    ) = None
    stream: bool = False
    raw: bool = False
    """True: the prompt goes to the model as it is, without the model's chat template."""
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | None = None
    """How long the caller will wait, in milliseconds from now; a day at most."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=2)] = 1

    @property
    def prompt_chars(self) -> int:
        return len(self.prompt)

    def to_request(self, request_id: str, *, model: str, tenant: str, resume_grace_s: float) -> GenerateRequest:
        """The request that goes to the ledger."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        deadline = None if self.deadline_ms is None else int(time.time() * 1000) + self.deadline_ms
        return GenerateRequest(
            id=request_id,
            model=model,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=stop,
            raw=self.raw,
            tenant=tenant,
            priority=self.priority,
            deadline_ms=deadline,
            resume_grace_ms=int(resume_grace_s * 1000),
        )


@attrs.frozen(kw_only=True)
class AttachOp:
    """`{"op":"attach"}` on a WebSocket: follow a stream after seq `after`."""

    id: NonEmpty
    after: Annotated[int, msgspec.Meta(ge=0, lt=10**15)] = 0


@attrs.frozen(kw_only=True)
class CancelOp:
    """`{"op":"cancel"}` on a WebSocket."""

    id: NonEmpty


def parse_object(data: bytes | str, *, what: str = "the body") -> dict[str, Any]:
    """A JSON object. Of a key that is given twice the last one counts. Raises `InvalidRequest` for anything else."""
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
    return value


def convert(fields: dict[str, Any], kind: type[T]) -> T:
    """`fields` as a `kind`. Raises `InvalidRequest` that names the first field which is unknown or wrong."""
    known = {field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", kind))}
    unknown = sorted(set(fields) - known)
    if unknown:
        names = ", ".join(f"`{_clip(name)}`" for name in unknown[:5])
        raise InvalidRequest(f"unknown field {names}; known fields are: {', '.join(sorted(known))}")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        raise InvalidRequest(f"`{field}`: {text}" if field else text) from None


def deadline_of(header: str | None) -> int | None:
    """`X-Request-Deadline`: milliseconds since 1970. Raises `InvalidRequest`."""
    if not header:
        return None
    if not header.isascii() or not header.isdigit() or len(header) > 15:
        raise InvalidRequest("`X-Request-Deadline` takes milliseconds since 1970, a whole number")
    return int(header)


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")


def _clip(name: str) -> str:
    return name if len(name) <= 40 else name[:40] + "…"
