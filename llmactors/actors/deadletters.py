"""Messages that were given up: counted by reason, and the newest kept, so that a programmer can find faults."""

import collections
import enum

import attrs

from llmactors.actors.envelope import Envelope
from llmactors.actors.errors import ActorDied, MailboxFull, MessageExpired
from llmactors.actors.observer import Observer


class DeadReason(enum.Enum):
    """Why a message was given up."""

    CRASHED = "crashed"
    """The handling of the message ended the incarnation; with redelivery, twice."""
    CANCELLED = "cancelled"
    """The incarnation ended for another reason while this message was in hand."""
    DELIVERIES = "deliveries"
    """With redelivery: as many incarnations as the spec allows ended with the message in hand."""
    EXPIRED = "expired"
    """The message's deadline passed in the mailbox."""
    STALE = "stale"
    """The message was meant for an earlier incarnation."""
    OVERFLOW = "overflow"
    """The message was the oldest in a full `DROP_OLDEST` mailbox."""
    REFUSED = "refused"
    """The handler of a `tell` raised a declared error, and a `tell` has no asker that could get the error."""
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
    """Counts dead letters and keeps the newest `keep` of them, oldest first."""

    def __init__(self, observer: Observer, *, keep: int = 128) -> None:
        self._observer = observer
        self.counts: collections.Counter[DeadReason] = collections.Counter()
        self.newest: collections.deque[DeadLetter] = collections.deque(maxlen=keep)

    def __repr__(self) -> str:
        return f"<DeadLetters {dict(self.counts)}>"

    def add(self, actor: str, reason: DeadReason, envelope: Envelope, cause: str = "") -> None:
        """Gives `envelope` up. An asker gets the error at once."""
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
