"""The form of an error response: the headers on every route, and the body on the native routes. Pure."""

from typing import Any

import attrs

from llmactors.errors import LlmactorsError, MethodNotAllowed
from llmactors.gateway.limit_reached import LimitReached
from llmactors.http.exchange import Header
from llmactors.limiter.headers import limit_headers, retry_headers
from llmactors.messages import Failed


@attrs.frozen
class ErrorDetail:
    """An error. Programs decide by `code`, which is stable; `message` is for people."""

    code: str
    message: str
    request_id: str


@attrs.frozen
class ErrorBody:
    """The body of every error response of the native routes."""

    error: ErrorDetail


def error_fields(error: LlmactorsError | Failed) -> dict[str, Any]:
    """The fields that an error has everywhere on the native routes: in a response, an event and a WebSocket message."""
    return {"code": error.code, "message": error.message}


class NativeErrors:
    """The form of errors on the native routes."""

    def status(self, error: LlmactorsError | type[LlmactorsError]) -> int:
        """The HTTP status of an error, or of a kind of errors."""
        return error.status

    def body(self, error: LlmactorsError, request_id: str) -> dict[str, Any]:
        """The JSON object of an error response."""
        return {"error": {**error_fields(error), "request_id": request_id}}

    def headers(self, error: LlmactorsError) -> list[Header]:
        """`Retry-After` on a 429 or 503 unless no wait would help, `Allow` on a 405, `WWW-Authenticate` on a 401."""
        headers: list[Header] = []
        should_retry = error.retry_after_s is not None
        if isinstance(error, LimitReached):
            headers += limit_headers(error.standings)
            should_retry = error.should_retry
        if error.retry_after_s is not None or (error.status in {429, 503} and not isinstance(error, LimitReached)):
            headers += retry_headers(error.retry_after_s or 1.0)
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", ", ".join(error.allowed)))
        if error.status in {409, 429} or error.status >= 500:
            # OpenAI's clients decide by this header, before they look at the status.
            headers.append(("x-should-retry", "true" if should_retry else "false"))
        if error.status == 401:
            headers.append(("www-authenticate", "Bearer"))
        return headers


NATIVE_ERRORS = NativeErrors()
