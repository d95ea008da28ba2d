"""The errors of the actor runtime. These errors are no client errors: `gateway/actor_errors.py` converts them for
clients.
"""


class ActorError(Exception):
    """The root of the runtime's errors. A bare one says what its class's docstring says."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class AskFailed(ActorError):
    """The root of what `ask` and `tell` raise where the receiver is to blame, and not the message."""


class ActorDied(AskFailed):
    """The actor that was asked ended before it answered. What the actor did with the message is not known."""


class MailboxFull(AskFailed):
    """The mailbox has no room for the message, or newer messages pushed the message out."""


class MessageExpired(AskFailed):
    """The message's deadline passed before a handler began to work on the message."""


# An incarnation or a supervisor ended. These are seen in logs and exit reasons.


class HandlerHung(ActorError):
    """A handler, a start or a cleanup took longer than its budget, which counts as a crash."""


class StartFailed(ActorError):
    """A child could not start. The cause is chained to this error."""


class RestartIntensityExceeded(ActorError):
    """A supervisor restarted its children more often than its limit allows, so all its children were stopped."""


# The program is wrong.


class MisuseError(ActorError):
    """The program uses the runtime in a way that cannot work. The message says which call is wrong."""
