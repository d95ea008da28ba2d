"""What a failed try at an upstream says about the upstream and about the request. Pure."""

import email.utils
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
_OPERATORS_FAULT: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the upstream refuses the key that this service has for it",
    HTTPStatus.FORBIDDEN: "the upstream refuses the key that this service has for it",
    HTTPStatus.NOT_FOUND: "the upstream knows no such route or model",
}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
"""The codes of OpenAI and of llama.cpp for a prompt that is longer than the context."""
_FINAL_CODES = {"INVALID_REQUEST", "CONTEXT_EXCEEDED", "POISONED", "DEADLINE_EXCEEDED", "EXPIRED"}
"""The codes of an llmactors upstream after which another try would end the same."""


class UpstreamFault(Exception):
    """A try at an upstream failed.

    Args:
        error: The error for the client where no other try follows.
        again: Whether another try may help, at this upstream or at another.
        blames: Whether the upstream is at fault, not the request.
        hold_s: For how long the upstream wants no requests; None where it does not say.
    """

    def __init__(
        self, error: LlmactorsError, *, again: bool = True, blames: bool = True, hold_s: float | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.blames = blames
        self.hold_s = hold_s


def refusal_fault(status: int, error: dict[str, Any], hold_s: float | None) -> UpstreamFault:
    """The fault that a response other than a stream stands for."""
    if status == HTTPStatus.OK:
        return UpstreamFault(BackendFailed("the upstream answered with something that is no event stream"))
    if status in _REQUEST_AT_FAULT:
        too_long = {str(error.get("code")), str(error.get("type"))} & _TOO_LONG
        kind = ContextExceeded if too_long else InvalidRequest
        refused = kind(f"the upstream refuses the request: {_said(error)}")
        return UpstreamFault(refused, again=False, blames=False)
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} and hold_s is not None:
        told = Unavailable("the upstream has no room now", retry_after_s=hold_s)
        return UpstreamFault(told, blames=False, hold_s=min(hold_s, _MAX_HOLD_S))
    if status in _MAY_PASS or status == HTTPStatus.SERVICE_UNAVAILABLE:
        told = Unavailable(f"the upstream cannot take the request now (it answered {status})", retry_after_s=1.0)
        return UpstreamFault(told, blames=status == HTTPStatus.SERVICE_UNAVAILABLE)
    # The upstream's own text is left out: such texts quote the key.
    return UpstreamFault(BackendFailed(_OPERATORS_FAULT.get(status, f"the upstream answered {status}")))


def in_stream_fault(error: dict[str, Any]) -> UpstreamFault:
    """The fault that an error object in a stream stands for.

    A code of llmactors keeps its meaning. Any other code may be an HTTP status.
    """
    code = error.get("code")
    if isinstance(code, str) and code in STREAM_CODES:
        return UpstreamFault(from_code(code, _said(error)), again=code not in _FINAL_CODES, blames=False)
    try:
        status = int(str(code))
    except ValueError:
        status = 0
    if status in _REQUEST_AT_FAULT or error.get("type") in {"invalid_request_error", "BadRequestError"}:
        return refusal_fault(HTTPStatus.BAD_REQUEST, error, None)
    return UpstreamFault(BackendFailed("the upstream gave the request up"))


def retry_after_s(headers: Mapping[str, str], wall_time: float) -> float | None:
    """`retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); None where neither is valid."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError, KeyError):
            seconds = float(headers[name]) * unit
            return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError, KeyError):
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - wall_time)
    return None


def _said(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get("message") or "no reason given").split())[:_MAX_SAID]
