"""Messages that nobody will handle: counted by reason, the newest kept for a look. For finding faults, not a queue."""

import collections
import enum

import attrs

from llmactors.actors.envelope import Envelope
from llmactors.actors.errors import ActorDied, MailboxFull, MessageExpired
from llmactors.actors.observer import Observer


class DeadReason(enum.Enum):
    """Why a message was given up."""

    CRASHED = "crashed"
    """Its handling ended the incarnation (with redelivery: twice)."""
    CANCELLED = "cancelled"
    """The incarnation ended for another reason while this message was in hand."""
    EXPIRED = "expired"
    """Its deadline passed in the mailbox."""
    STALE = "stale"
    """It was meant for an earlier incarnation."""
    OVERFLOW = "overflow"
    """It was the oldest in a full `DROP_OLDEST` mailbox."""
    REFUSED = "refused"
    """A `tell` was answered with a declared error, and nobody waits for it."""
    STOPPED = "stopped"
    """The actor ended for good."""


@attrs.frozen
class DeadLetter:
    """One message that was given up."""

    actor: str
    reason: DeadReason
    message: object
    cause: str


class DeadLetters:
    """A bounded record of them, oldest first."""

    def __init__(self, observer: Observer, *, keep: int = 128) -> None:
        self._observer = observer
        self.counts: collections.Counter[DeadReason] = collections.Counter()
        self.newest: collections.deque[DeadLetter] = collections.deque(maxlen=keep)

    def __repr__(self) -> str:
        return f"<DeadLetters {dict(self.counts)}>"

    def add(self, actor: str, reason: DeadReason, envelope: Envelope, cause: str = "") -> None:
        """Gives `envelope` up; an asker learns of it at once."""
        if envelope.reply is not None:
            match reason:
                case DeadReason.EXPIRED:
                    envelope.reply.fail(MessageExpired(f"the message to {actor} expired in its mailbox"))
                case DeadReason.OVERFLOW:
                    envelope.reply.fail(MailboxFull(f"newer messages filled the mailbox of {actor}"))
                case _:
                    envelope.reply.fail(ActorDied(f"{actor} did not answer: {cause or reason.value}"))
        self.counts[reason] += 1
        self.newest.append(DeadLetter(actor, reason, envelope.message, cause))
        self._observer.dead_letter(actor, reason.value, type(envelope.message).__name__, cause)
