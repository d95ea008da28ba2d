"""The form of errors that Anthropic's clients read.

Source: https://docs.claude.com/en/api/errors. A full queue and a node that takes no requests are `overloaded_error`,
with Anthropic's own status 529, and a fault of the service is `api_error` with 500.
"""

import time
from typing import Any

import attrs

from llmactors.errors import ClientError, LlmactorsError, Overloaded, Unavailable
from llmactors.gateway.anthropic.limit_headers import anthropic_limit_headers
from llmactors.gateway.errors import NativeErrors
from llmactors.gateway.limit_reached import LimitReached
from llmactors.http.exchange import Header

_OVERLOADED = 529
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    410: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    _OVERLOADED: "overloaded_error",
}


@attrs.frozen
class AnthropicErrorDetail:
    """An error as Anthropic's clients read it."""

    type: str
    message: str


@attrs.frozen
class AnthropicErrorBody:
    """The body of every error response of the routes of Anthropic's API."""

    type: str
    """Always `error`."""
    error: AnthropicErrorDetail
    request_id: str


class AnthropicErrors(NativeErrors):
    """The form of errors on the routes of Anthropic's API."""

    def status(self, error: LlmactorsError | type[LlmactorsError]) -> int:
        """The HTTP status of an error, or of a kind of errors."""
        kind = error if isinstance(error, type) else type(error)
        if issubclass(kind, Overloaded | Unavailable):
            return _OVERLOADED
        return 500 if kind.status == 502 else kind.status

    def body(self, error: LlmactorsError, request_id: str) -> dict[str, Any]:
        """The JSON object of an error response, and of the last event of a stream that cannot be finished."""
        default = "invalid_request_error" if isinstance(error, ClientError) else "api_error"
        kind = _TYPES.get(self.status(error), default)
        return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}

    def headers(self, error: LlmactorsError) -> list[Header]:
        """As `NativeErrors.headers`, and the limits in the form of Anthropic's API."""
        headers = super().headers(error)
        if isinstance(error, LimitReached):
            headers += anthropic_limit_headers(error.standings, time.time())
        return headers


ANTHROPIC_ERRORS = AnthropicErrors()
