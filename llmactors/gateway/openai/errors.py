"""The form of errors that OpenAI's clients read. Pure.

OpenAI's clients decide by the status, and by `x-should-retry` and `retry-after`, whether to try again by themselves.
"""

import re
from typing import Any

import attrs

from llmactors.errors import ClientError, InvalidRequest, LlmactorsError
from llmactors.gateway.errors import NativeErrors
from llmactors.gateway.limit_reached import LimitReached
from llmactors.gateway.unknown_model import UnknownModel
from llmactors.limiter import Limit

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {
    "CONTEXT_EXCEEDED": "context_length_exceeded",
    "RATE_LIMITED": "rate_limit_exceeded",
    "UNAUTHENTICATED": "invalid_api_key",
}
_NAMED = re.compile(r"`([a-z_]+)(?:[.\[][^`]*)?`")
"""The name of the field that begins the message of an `InvalidRequest`, whether a route or a backend raised the
error."""


class InvalidParameter(InvalidRequest):
    """The field `param` is wrong, or asks for something that is not served here.

    `reason` is the code of the error where OpenAI's API has one of its own.
    """

    def __init__(self, param: str, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.reason = reason


@attrs.frozen
class OpenAIErrorDetail:
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


@attrs.frozen
class OpenAIErrorBody:
    """The body of every error response of the OpenAI routes."""

    error: OpenAIErrorDetail


class OpenAIErrors(NativeErrors):
    """The form of errors on the OpenAI routes."""

    def body(self, error: LlmactorsError, request_id: str) -> dict[str, Any]:  # noqa: ARG002 - OpenAI shows no id here
        """The JSON object of an error response."""
        return error_object(error)


OPENAI_ERRORS = OpenAIErrors()


def error_object(error: LlmactorsError) -> dict[str, Any]:
    """The body of an error response, and of the last event of a stream that cannot be finished."""
    kind, code = _kind_and_code(error)
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": _param(error),
            "code": code,
        }
    }


def _param(error: LlmactorsError) -> str | None:
    if isinstance(error, InvalidParameter):
        return error.param or None
    named = _NAMED.match(error.message) if isinstance(error, ClientError) else None
    return named and named[1]


def _kind_and_code(error: LlmactorsError) -> tuple[str, str]:
    if isinstance(error, LimitReached):
        if error.limit is Limit.DAY or error.limit.of_money:
            return "insufficient_quota", "insufficient_quota"
        return "tokens" if error.limit.of_tokens else "requests", "rate_limit_exceeded"
    if isinstance(error, InvalidParameter) and error.reason:
        return "invalid_request_error", error.reason
    if isinstance(error, UnknownModel):
        return _TYPES[error.status], "model_not_found"
    default = "invalid_request_error" if isinstance(error, ClientError) else "server_error"
    return _TYPES.get(error.status, default), _CODES.get(error.code, error.code.lower())
