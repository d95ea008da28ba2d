"""Every exception that llmactors raises on purpose, grouped by whose fault it is, with its code and HTTP status.

A code is part of the public contract and never changes its meaning: clients get it as `error.code`, and it is the
label `code` of `llm_gateway_errors_total`. Exceptions of other libraries are converted to these where the I/O is done.
The OpenAPI document shows the first line of each docstring to clients.
"""

from typing import ClassVar


class LlmactorsError(Exception):
    """The base of all errors. The message is safe to show to a client: it contains no prompt, no key and no path."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.retry_after_s = retry_after_s
        """The seconds after which a retry makes sense; None if a retry cannot help."""

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self.args[0])


# The client's fault. The same request fails again.


class ClientError(LlmactorsError):
    """The request cannot be served in the form in which it was sent."""

    code = "INVALID_REQUEST"
    status = 400


class InvalidRequest(ClientError):
    """A field is missing, unknown, of the wrong type or out of range. The message names the field."""


class ContextExceeded(InvalidRequest):
    """The prompt, or the prompt together with the answer, is longer than the model's context."""

    code = "CONTEXT_EXCEEDED"


class Unauthenticated(ClientError):
    """The request has no API key, or an unknown one."""

    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(ClientError):
    """The host name of this request, the web page that sent it, or the caller's key is not allowed here."""

    code = "FORBIDDEN"
    status = 403


class NotFound(ClientError):
    """The route, model or stream does not exist, or belongs to another tenant."""

    code = "NOT_FOUND"
    status = 404


class MethodNotAllowed(ClientError):
    """The route does not have this method. `allowed` names the methods of the route."""

    code = "METHOD_NOT_ALLOWED"
    status = 405

    def __init__(self, message: str = "", *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(ClientError):
    """The client did not send the whole request in time."""

    code = "REQUEST_TIMEOUT"
    status = 408


class Conflict(ClientError):
    """The same idempotency key or id was used before with another body."""

    code = "CONFLICT"
    status = 409


class Expired(ClientError):
    """The stream existed, but is no longer kept."""

    code = "EXPIRED"
    status = 410


class UnsupportedEncoding(ClientError):
    """The body is compressed, and no compressed body is accepted."""

    code = "UNSUPPORTED_ENCODING"
    status = 415


class TooLarge(ClientError):
    """The body or the prompt is larger than its limit."""

    code = "TOO_LARGE"
    status = 413


# A limit was reached. The same request may succeed after `retry_after_s`.


class RateLimited(LlmactorsError):
    """The caller has used up one of its limits."""

    code = "RATE_LIMITED"
    status = 429


class Overloaded(LlmactorsError):
    """The queue of requests is full."""

    code = "OVERLOADED"
    status = 429


# The service's fault.


class Unavailable(LlmactorsError):
    """The service cannot take requests now, because it shuts down, has no backend, or cannot reach its ledger."""

    code = "UNAVAILABLE"
    status = 503


class DeadlineExceeded(LlmactorsError):
    """The deadline passed before the request was complete."""

    code = "DEADLINE_EXCEEDED"
    status = 504


class Interrupted(LlmactorsError):
    """The backend was lost in the middle of a stream, and no other backend can continue the stream."""

    code = "INTERRUPTED"
    status = 502


class Poisoned(LlmactorsError):
    """Every backend that took the request crashed, also when the request ran alone."""

    code = "POISONED"
    status = 500


class BackendFailed(LlmactorsError):
    """The backend refused the request or failed to answer it."""

    code = "BACKEND_FAILED"
    status = 502


class InternalError(LlmactorsError):
    """A fault in llmactors itself. The log has the traceback under the id of the request."""


# The operator's fault. The command line shows these errors in one line.


class OperatorError(LlmactorsError):
    """The node cannot start with its configuration."""

    exit_code: ClassVar[int] = 1


class ConfigError(OperatorError):
    """A flag, a variable or a configuration file is wrong. The message names the wrong setting."""

    exit_code = 2


class ModelError(OperatorError):
    """A model cannot be loaded: its file is missing or corrupt, its checksum is wrong, or its download failed."""


class BindError(OperatorError):
    """The node cannot listen on its address."""


STREAM_CODES = frozenset(
    {
        "DEADLINE_EXCEEDED",
        "INTERRUPTED",
        "POISONED",
        "BACKEND_FAILED",
        "INVALID_REQUEST",
        "CONTEXT_EXCEEDED",
        "UNAVAILABLE",
        "EXPIRED",
    },
)
"""The codes that an `error` event at the end of a stream may have."""


def _family(root: type[LlmactorsError]) -> list[type[LlmactorsError]]:
    found = [root]
    for child in root.__subclasses__():
        found += _family(child)
    return found


def codes() -> frozenset[str]:
    """The codes of all errors that are declared in the modules imported so far."""
    return frozenset(error.code for error in _family(LlmactorsError))


def from_code(code: str, message: str) -> LlmactorsError:
    """The error with this code; a plain `LlmactorsError` for an unknown code."""
    kind = next((error for error in _family(LlmactorsError) if error.code == code), LlmactorsError)
    return kind(message)
