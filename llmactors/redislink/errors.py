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


class ReplyError(Unavailable):
    """The server replied with an error. Asking again may help, because an operator can mend any of these errors.

    The message is for clients, and holds nothing of the reply. `text` is the reply, for logs and operators; it does not
    repeat the arguments of the command.
    """

    words: ClassVar[frozenset[str]] = frozenset()
    advice: ClassVar[str] = ""
    """What an operator can do about the error."""

    def __init__(self, text: str = "") -> None:
        super().__init__("the ledger refuses requests at the moment; try again", retry_after_s=_RETRY_AFTER_S)
        self.text = text

    @property
    def word(self) -> str:
        """The first word of the reply, as in `ERR` or `WRONGTYPE`."""
        return self.text.partition(" ")[0]

    @property
    def kind(self) -> str:
        """The word if it is one of those that Redis documents, else `other`: a label of metrics."""
        return self.word if self.word in _KINDS else "other"


class Refused(ReplyError):
    """The server refused the command because of a state that passes. The command was not executed."""


class Loading(Refused):
    """The server reads its data from disk after a start."""

    words = frozenset({"LOADING"})


class ReadOnly(Refused):
    """The server is a replica. The link closes the connection, and finds the master again."""

    words = frozenset({"READONLY"})
    advice = "the URL must name the primary"


class OutOfMemory(Refused):
    """The server is at `maxmemory`."""

    words = frozenset({"OOM"})
    advice = "raise `maxmemory`"


class Misconfigured(Refused):
    """The server cannot write its data to disk, and refuses writes until it can."""

    words = frozenset({"MISCONF"})
    advice = "free space on the disk of Redis, and read the log of Redis"


class Busy(Refused):
    """A script or a function has been running for too long."""

    words = frozenset({"BUSY"})
    advice = "FUNCTION KILL or SCRIPT KILL ends a script"


class MasterDown(Refused):
    """The server is a replica that lost its master."""

    words = frozenset({"MASTERDOWN"})


class NoReplicas(Refused):
    """Fewer replicas are connected than the server's configuration requires."""

    words = frozenset({"NOREPLICAS"})
    advice = "connect the replicas, or lower `min-replicas-to-write`"


class WrongNode(Refused):
    """The server is one of a Redis Cluster, and does not hold the keys, or no server of the cluster does."""

    words = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT"})
    advice = (
        "a Redis Cluster is named by cluster://HOST:PORT,…; any other URL needs a server that holds all 16384 slots, "
        "or that has no `cluster-enabled`"
    )


class AccessDenied(ReplyError):
    """The password is missing or wrong, or the user may not send this command."""

    words = frozenset({"NOAUTH", "WRONGPASS", "NOPERM"})
    advice = "check the password of the URL, and what ACL GETUSER says of its user"


class NoSuchFunction(ReplyError):
    """No loaded library has this function."""


class Unreachable(OperatorError):
    """No usable server answers at the address now."""


class UnusableServer(OperatorError):
    """The server answers, but waiting cannot help: its password, its certificate or its version is wrong."""


_BY_WORD: dict[str, type[ReplyError]] = {
    word: kind
    for kind in (Loading, ReadOnly, OutOfMemory, Misconfigured, Busy, MasterDown, NoReplicas, WrongNode, AccessDenied)
    for word in kind.words
}
_KINDS = frozenset({*_BY_WORD, "ERR", "WRONGTYPE"})


def reply_error(text: str) -> ReplyError:
    """The error for the text of an error reply."""
    # Redis repeats arguments that it did not understand, which may be a prompt or a password.
    text = text.partition(", with args beginning with")[0][:_MAX_TEXT]
    if text == "ERR Function not found":
        return NoSuchFunction(text)
    # An error inside a script is no refusal: what the script did before the error has happened.
    kind = ReplyError if " script: " in text else _BY_WORD.get(text.partition(" ")[0], ReplyError)
    return kind(text)


def reason_of(error: Exception) -> str:
    """The error for logs and operators: the text of an error reply with advice, or else the error's message."""
    if isinstance(error, ReplyError):
        return f"{error.text} ({error.advice})" if error.advice else error.text
    return error.message if isinstance(error, LlmactorsError) else repr(error)
