"""Every exception that llmactors raises on purpose: whose fault it is, its stable code, its HTTP status.

A code is part of the public contract: it is the `error.code` of an answer, the `code` label of
`llm_gateway_errors_total`, and it never changes its meaning. Exceptions of other libraries are mapped onto these
where the I/O is, and nowhere else.
"""

from typing import ClassVar


class LlmactorsError(Exception):
    """The root of the family. Its text is safe to show to a client: it never holds a prompt, a key or a path."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])
        self.retry_after_s = retry_after_s
        """When it makes sense to try again, in seconds; None where trying again cannot help."""

    @property
    def message(self) -> str:
        """The text without any traceback."""
        return str(self.args[0])


# The client's fault: the same request will fail again.


class ClientError(LlmactorsError):
    """The request cannot be served as it was sent."""

    code = "INVALID_REQUEST"
    status = 400


class InvalidRequest(ClientError):
    """A field is missing, unknown, of a wrong type or out of range. The message names the field."""


class ContextExceeded(InvalidRequest):
    """The prompt, or prompt and answer together, are longer than the model's context."""

    code = "CONTEXT_EXCEEDED"


class Unauthenticated(ClientError):
    """No API key was sent, or it is not known."""

    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(ClientError):
    """The key is known, but may not do this."""

    code = "FORBIDDEN"
    status = 403


class NotFound(ClientError):
    """There is no such route, model or stream, or it belongs to another tenant."""

    code = "NOT_FOUND"
    status = 404


class MethodNotAllowed(ClientError):
    """The route exists, but not with this method. `allowed` names the methods that it has."""

    code = "METHOD_NOT_ALLOWED"
    status = 405

    def __init__(self, message: str = "", *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(ClientError):
    """The client did not send its whole request in time."""

    code = "REQUEST_TIMEOUT"
    status = 408


class Conflict(ClientError):
    """The same id was used before with another body."""

    code = "CONFLICT"
    status = 409


class Expired(ClientError):
    """The stream existed, but its log is no longer kept."""

    code = "EXPIRED"
    status = 410


class UnsupportedEncoding(ClientError):
    """The body is compressed, and no compressed body is accepted."""

    code = "UNSUPPORTED_ENCODING"
    status = 415


class TooLarge(ClientError):
    """The body or the prompt is over its size limit."""

    code = "TOO_LARGE"
    status = 413


# A limit was reached: the same request may work later, after `retry_after_s`.


class RateLimited(LlmactorsError):
    """This caller sent more than its limit admits."""

    code = "RATE_LIMITED"
    status = 429


class Overloaded(LlmactorsError):
    """A queue is full: a mailbox, or the ledger's queue of requests."""

    code = "OVERLOADED"
    status = 429


# The service's fault.


class Unavailable(LlmactorsError):
    """The service cannot take requests now: it is draining, has no backend, or its ledger is away."""

    code = "UNAVAILABLE"
    status = 503


class DeadlineExceeded(LlmactorsError):
    """The request's deadline passed before it was done."""

    code = "DEADLINE_EXCEEDED"
    status = 504


class Interrupted(LlmactorsError):
    """The backend was lost mid-stream and cannot continue where it stopped."""

    code = "INTERRUPTED"
    status = 502


class Poisoned(LlmactorsError):
    """Every backend that took this request crashed, also when it ran alone."""

    code = "POISONED"
    status = 500


class BackendFailed(LlmactorsError):
    """The backend refused or failed this request."""

    code = "BACKEND_FAILED"
    status = 502


class InternalError(LlmactorsError):
    """A fault in llmactors itself. The log has the traceback under this request's id."""


# The operator's fault: the command line shows these as one line.


class OperatorError(LlmactorsError):
    """The node cannot start as it was configured."""

    exit_code: ClassVar[int] = 1


class ConfigError(OperatorError):
    """A flag, variable or configuration file is wrong. The message names it."""

    exit_code = 2


class ModelError(OperatorError):
    """A model cannot be had or loaded: no such file, a wrong checksum, a failed download, a corrupt GGUF."""


class BindError(OperatorError):
    """The address to listen on cannot be had."""


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
"""The codes that a terminal `error` event of a stream may carry."""


def _family(root: type[LlmactorsError]) -> list[type[LlmactorsError]]:
    found = [root]
    for child in root.__subclasses__():
        found += _family(child)
    return found


def codes() -> frozenset[str]:
    """The codes of all errors, those of other modules included that are imported by now."""
    return frozenset(error.code for error in _family(LlmactorsError))


def from_code(code: str, message: str) -> LlmactorsError:
    """The error that `code` stands for; a plain `LlmactorsError` for a code that nobody declared."""
    kind = next((error for error in _family(LlmactorsError) if error.code == code), LlmactorsError)
    return kind(message)
