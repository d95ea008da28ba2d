"""What a failed try at an upstream says about the upstream and about the request. Pure.

Texts of servers for a prompt that is too long: vLLM's renderer and input processor, SGLang's tokenizer manager, and
llama.cpp's `server-context.cpp`. Only llama.cpp and OpenAI have a code for it.
"""

import email.utils
import enum
import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from llmactors.errors import (
    STREAM_CODES,
    BackendFailed,
    ContextExceeded,
    InvalidRequest,
    LlmactorsError,
    Unavailable,
    from_code,
)

_MAX_SAID = 300
_MAX_HOLD_S = 3600.0

_REQUEST_AT_FAULT = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error"}
"""The codes of OpenAI and of llama.cpp for a prompt that is longer than the context."""
_TOO_LONG = re.compile(
    "maximum context length"
    "|longer than the (model's context|maximum model) length"
    "|too long to fit into the model"
    "|exceeds the available context size"
    "|larger than the max context size",
    re.IGNORECASE,
)
_FLAGGED_CODES = {"content_filter", "content_policy_violation", "moderation"}
_FINAL_CODES = {"INVALID_REQUEST", "CONTEXT_EXCEEDED", "POISONED", "DEADLINE_EXCEEDED", "EXPIRED"}
"""The codes of an llmactors upstream after which another try would end the same."""


class CircuitEffect(enum.Enum):
    """What a fault means for the circuit of the upstream."""

    WORKS = "works"
    """The upstream did what was asked: the circuit closes."""
    NOTHING = "nothing"
    """The circuit stays as it is."""
    COUNTS = "counts"
    """The circuit opens after several such faults in a row."""
    OPENS = "opens"
    """The circuit opens at once: every other request would fail in the same way."""


class FaultKind(enum.Enum):
    """The kinds of faults. The first value of each is its label in metrics."""

    REQUEST = "request", CircuitEffect.WORKS
    """The client's request is wrong. No other try follows."""
    CONTEXT = "context", CircuitEffect.WORKS
    """The prompt is too long for this upstream. An upstream with a longer context may take the prompt."""
    REFUSED = "refused", CircuitEffect.NOTHING
    """Another status between 400 and 499, which says neither that the request nor that the upstream is at fault."""
    UNFIT = "unfit", CircuitEffect.NOTHING
    """The upstream cannot go on with the answer that was begun, or lacks what the request needs."""
    BUSY = "busy", CircuitEffect.NOTHING
    """The upstream cannot take the request now, or cannot go on with it now."""
    KEY = "key", CircuitEffect.OPENS
    """The upstream refuses the key of this service."""
    MODEL = "model", CircuitEffect.OPENS
    """The upstream knows no such model or route."""
    UNREACHABLE = "unreachable", CircuitEffect.COUNTS
    """The upstream accepts no connection."""
    ERROR = "error", CircuitEffect.COUNTS
    """The upstream failed, or does not speak HTTP."""
    CUT = "cut", CircuitEffect.COUNTS
    """The connection broke, or the answer stopped in the middle."""
    SILENT = "silent", CircuitEffect.COUNTS
    """The upstream sent nothing for too long."""
    MALFORMED = "malformed", CircuitEffect.NOTHING
    """A part of this one answer cannot be read. Other answers of the upstream may be readable."""

    def __init__(self, label: str, effect: CircuitEffect) -> None:
        self.label = label
        self.effect = effect

    @property
    def is_final(self) -> bool:
        """Whether each other try would end the same."""
        return self is FaultKind.REQUEST

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed at the same upstream a moment later."""
        return self in _PASSING


_PASSING = {FaultKind.BUSY, FaultKind.ERROR, FaultKind.CUT, FaultKind.MALFORMED}


class UpstreamFault(Exception):
    """A try at an upstream failed.

    Args:
        kind: What the fault says about the upstream and the request.
        error: The error for the client where no other try follows.
        hold_s: For how long the upstream wants no requests; None where it does not say.
        said: The upstream's own text, which no client sees: it may quote the key.
    """

    def __init__(self, kind: FaultKind, error: LlmactorsError, *, hold_s: float | None = None, said: str = "") -> None:
        super().__init__(error.message)
        self.kind = kind
        self.error = error
        self.hold_s = hold_s
        self.said = said


_OF_STATUS: dict[int, tuple[FaultKind, str]] = {
    HTTPStatus.UNAUTHORIZED: (FaultKind.KEY, "the upstream refuses the key that this service has for it"),
    HTTPStatus.PAYMENT_REQUIRED: (FaultKind.REFUSED, "the upstream wants to be paid first"),
    HTTPStatus.FORBIDDEN: (FaultKind.KEY, "the upstream refuses the key that this service has for it"),
    HTTPStatus.NOT_FOUND: (FaultKind.MODEL, "the upstream knows no such route or model"),
}
"""The faults of the operator. The upstream's own text is left out, since such texts quote the key."""


def refusal_fault(status: int, error: dict[str, Any], hold_s: float | None, *, field: str = "") -> UpstreamFault:
    """The fault that a response other than a stream stands for. `field` is the field of the request that is refused."""
    if status == HTTPStatus.OK:
        text = "the upstream answered with something that is no event stream"
        return UpstreamFault(FaultKind.ERROR, BackendFailed(text))
    if status in _REQUEST_AT_FAULT or (status == HTTPStatus.FORBIDDEN and _is_flagged(error)):
        text = f"{f'`{field}`: ' if field else ''}the upstream refuses the request: {_said(error)}"
        if _is_too_long(error):
            return UpstreamFault(FaultKind.CONTEXT, ContextExceeded(text))
        return UpstreamFault(FaultKind.REQUEST, InvalidRequest(text))
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} and hold_s is not None:
        told = Unavailable("the upstream has no room now", retry_after_s=hold_s)
        return UpstreamFault(FaultKind.BUSY, told, hold_s=min(hold_s, _MAX_HOLD_S))
    if status in _MAY_PASS or status == HTTPStatus.SERVICE_UNAVAILABLE:
        told = Unavailable(f"the upstream cannot take the request now (it answered {status})", retry_after_s=1.0)
        return UpstreamFault(FaultKind.BUSY if status in _MAY_PASS else FaultKind.ERROR, told)
    kind, text = _OF_STATUS.get(status, (FaultKind.ERROR, f"the upstream answered {status}"))
    if kind is FaultKind.ERROR and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = FaultKind.REFUSED
    return UpstreamFault(kind, BackendFailed(text))


def in_stream_fault(error: dict[str, Any]) -> UpstreamFault:
    """The fault that an error object in a stream stands for.

    A code of llmactors keeps its meaning. Any other code may be an HTTP status.
    """
    code = error.get("code")
    if isinstance(code, str) and code in STREAM_CODES:
        kind = FaultKind.REQUEST if code in _FINAL_CODES else FaultKind.BUSY
        if code == ContextExceeded.code:
            kind = FaultKind.CONTEXT
        return UpstreamFault(kind, from_code(code, _said(error)))
    try:
        status = int(str(code))
    except ValueError:
        status = 0
    if status in _REQUEST_AT_FAULT or error.get("type") in {"invalid_request_error", "BadRequestError"}:
        return refusal_fault(HTTPStatus.BAD_REQUEST, error, None)
    if status in _MAY_PASS:
        return refusal_fault(status, error, None)
    return UpstreamFault(FaultKind.ERROR, BackendFailed("the upstream gave the request up"), said=_said(error))


def retry_after_s(headers: Mapping[str, str], wall_time: float) -> float | None:
    """`retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); None where neither is valid."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError, KeyError):
            seconds = float(headers[name]) * unit
            return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError, KeyError):
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - wall_time)
    return None


def _names(error: Mapping[str, Any]) -> set[str]:
    return {str(error.get("code")), str(error.get("type"))}


def _is_flagged(error: Mapping[str, Any]) -> bool:
    """Whether a filter refuses the text of the client, in the words of OpenAI or of OpenRouter."""
    metadata = error.get("metadata")
    return bool(_names(error) & _FLAGGED_CODES) or (isinstance(metadata, dict) and "flagged_input" in metadata)


def _is_too_long(error: Mapping[str, Any]) -> bool:
    return bool(_names(error) & _TOO_LONG_CODES) or _TOO_LONG.search(_said(error)) is not None


def _said(error: Mapping[str, Any]) -> str:
    told = error.get("message") or error.get("detail") or "no reason given"
    return " ".join(str(told).split())[:_MAX_SAID]
