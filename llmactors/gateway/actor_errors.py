"""Converts the errors of the actor runtime to client errors. No other module does this."""

from llmactors.actors import AskFailed, MailboxFull, MessageExpired
from llmactors.errors import LlmactorsError, Overloaded, Unavailable

_RETRY_AFTER_S = 1.0


def client_error(error: AskFailed) -> LlmactorsError:
    """The client error for a failed `ask`. The client may retry: a dead actor restarts, and a full mailbox empties."""
    match error:
        case MailboxFull():
            return Overloaded("a part of this node has too much to do; try again", retry_after_s=_RETRY_AFTER_S)
        case MessageExpired():
            # This node set the deadline that has passed. The ledger enforces the deadlines of clients.
            return Unavailable("a part of this node is too slow; try again in a moment", retry_after_s=_RETRY_AFTER_S)
        case _:
            return Unavailable("a part of this node crashed; try again in a moment", retry_after_s=_RETRY_AFTER_S)
