"""What can come of a command besides its reply: it was never sent, it was refused, or nobody knows."""

from typing import ClassVar

from llmactors.errors import LlmactorsError, OperatorError, Unavailable

_RETRY_AFTER_S = 1.0
_MAX_TEXT = 300


class ProtocolError(Unavailable):
    """The bytes that came are not RESP3, or answer nothing that was asked. The connection is of no use any more."""


class LinkDown(Unavailable):
    """The command was never sent: the link is down, or its queue is full. To ask again is safe."""

    def __init__(self, message: str = "the ledger is away") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class OutcomeUnknown(Unavailable):
    """The command was sent and its reply was lost: it was executed once, or not at all.

    Only an operation that is idempotent may be asked again.
    """

    def __init__(self, message: str = "the ledger went away before it answered") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class ReplyError(LlmactorsError):
    """The server answered with an error. Its text never repeats the arguments that were sent."""

    @property
    def word(self) -> str:
        """The first word of the reply, as in `ERR` or `WRONGTYPE`."""
        return self.message.partition(" ")[0]


class Refused(ReplyError, Unavailable):
    """The server said no for a state that passes. The command was certainly not executed."""

    words: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class Loading(Refused):
    """The server reads its data from disk after a start."""

    words = frozenset({"LOADING"})


class ReadOnly(Refused):
    """The server is a replica. The link closes this connection, so that the address is resolved again."""

    words = frozenset({"READONLY"})


class OutOfMemory(Refused):
    """The server is at `maxmemory`."""

    words = frozenset({"OOM"})


class Misconfigured(Refused):
    """The server cannot write its data to disk, and takes no writes until it can."""

    words = frozenset({"MISCONF"})


class Busy(Refused):
    """A script or a function runs for too long."""

    words = frozenset({"BUSY"})


class MasterDown(Refused):
    """The server is a replica that lost its master."""

    words = frozenset({"MASTERDOWN"})


class NoReplicas(Refused):
    """Fewer replicas follow than the server was told to insist on."""

    words = frozenset({"NOREPLICAS"})


class AccessDenied(ReplyError):
    """The password is missing or wrong, or the user may not do this."""

    words: ClassVar[frozenset[str]] = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class NoSuchFunction(ReplyError):
    """No library that is loaded has this function."""


class Unreachable(OperatorError):
    """Nothing useful answers at the address. It may later."""


class UnusableServer(OperatorError):
    """The server answers, but waiting will not mend what is wrong: the password, its certificate, its version."""


_BY_WORD: dict[str, type[ReplyError]] = {
    word: kind
    for kind in (Loading, ReadOnly, OutOfMemory, Misconfigured, Busy, MasterDown, NoReplicas, AccessDenied)
    for word in kind.words
}


def reply_error(text: str) -> ReplyError:
    """The error that a reply's text stands for."""
    # Redis repeats what it did not understand, and that can be a prompt or a password.
    text = text.partition(", with args beginning with")[0][:_MAX_TEXT]
    if text == "ERR Function not found":
        return NoSuchFunction(text)
    # An error in the midst of a script: what the script did before has happened.
    kind = ReplyError if " script: " in text else _BY_WORD.get(text.partition(" ")[0], ReplyError)
    return kind(text)
