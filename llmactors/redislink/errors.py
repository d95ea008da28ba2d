"""The outcomes of a command besides its reply: it was not sent, it was refused, or its outcome is unknown."""

from typing import ClassVar

from llmactors.errors import LlmactorsError, OperatorError, Unavailable

_RETRY_AFTER_S = 1.0
_MAX_TEXT = 300


class ProtocolError(Unavailable):
    """The server sent bytes that are not RESP3, or a reply to no command. The connection is closed."""


class LinkDown(Unavailable):
    """The command was not sent: the link is down, or its queue is full. Repeating the command is safe."""

    def __init__(self, message: str = "the ledger is away") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class OutcomeUnknown(Unavailable):
    """The command was sent and its reply was lost: the server executed it once, or not at all.

    Only an idempotent command may be repeated.
    """

    def __init__(self, message: str = "the ledger went away before it answered") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class ReplyError(LlmactorsError):
    """The server replied with an error. The message does not repeat the arguments of the command."""

    @property
    def word(self) -> str:
        """The first word of the reply, as in `ERR` or `WRONGTYPE`."""
        return self.message.partition(" ")[0]


class Refused(ReplyError, Unavailable):
    """The server refused the command because of a state that passes. The command was not executed."""

    words: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after_s=_RETRY_AFTER_S)


class Loading(Refused):
    """The server reads its data from disk after a start."""

    words = frozenset({"LOADING"})


class ReadOnly(Refused):
    """The server is a replica. The link closes the connection, and finds the master again."""

    words = frozenset({"READONLY"})


class OutOfMemory(Refused):
    """The server is at `maxmemory`."""

    words = frozenset({"OOM"})


class Misconfigured(Refused):
    """The server cannot write its data to disk, and refuses writes until it can."""

    words = frozenset({"MISCONF"})


class Busy(Refused):
    """A script or a function has been running for too long."""

    words = frozenset({"BUSY"})


class MasterDown(Refused):
    """The server is a replica that lost its master."""

    words = frozenset({"MASTERDOWN"})


class NoReplicas(Refused):
    """Fewer replicas are connected than the server's configuration requires."""

    words = frozenset({"NOREPLICAS"})


class AccessDenied(ReplyError):
    """The password is missing or wrong, or the user may not send this command."""

    words: ClassVar[frozenset[str]] = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})


class NoSuchFunction(ReplyError):
    """No loaded library has this function."""


class Unreachable(OperatorError):
    """No usable server answers at the address now."""


class UnusableServer(OperatorError):
    """The server answers, but waiting cannot help: its password, its certificate or its version is wrong."""


_BY_WORD: dict[str, type[ReplyError]] = {
    word: kind
    for kind in (Loading, ReadOnly, OutOfMemory, Misconfigured, Busy, MasterDown, NoReplicas, AccessDenied)
    for word in kind.words
}


def reply_error(text: str) -> ReplyError:
    """The error for the text of an error reply."""
    # Redis repeats arguments that it did not understand, which may be a prompt or a password.
    text = text.partition(", with args beginning with")[0][:_MAX_TEXT]
    if text == "ERR Function not found":
        return NoSuchFunction(text)
    # An error inside a script is no refusal: what the script did before the error has happened.
    kind = ReplyError if " script: " in text else _BY_WORD.get(text.partition(" ")[0], ReplyError)
    return kind(text)
