"""A bounded mailbox that outlives the incarnations of its actor. Control events are received before messages."""

import collections
import enum
from collections.abc import Callable

import attrs
import trio

from llmactors.actors.envelope import Down, Envelope
from llmactors.actors.errors import ActorDied, MailboxFull

_WAKE = Envelope(None)
"""Ends a wait for a message. No actor gets this envelope."""


class Overflow(enum.Enum):
    """What a full mailbox does with the next message."""

    BLOCK = "block"
    """The sender waits for room, as long as the sender's own cancel scope allows."""
    REJECT = "reject"
    """The sender gets `MailboxFull`."""
    DROP_OLDEST = "drop_oldest"
    """The oldest message goes to the dead letters. Use this for telemetry only."""


@attrs.frozen
class MailboxStatistics:
    """A snapshot of a mailbox."""

    depth: int
    """Messages that wait."""
    capacity: int
    peak: int
    """The most messages that ever waited."""
    control: int
    """Control events that wait."""
    blocked_senders: int
    """Senders that wait for room."""


class Mailbox:
    """Keeps messages in a memory channel, and control events beside the channel.

    The mailbox belongs to the actor's address and not to an incarnation, so queued messages survive a restart. Only one
    task may receive at a time.
    """

    def __init__(self, owner: str, capacity: int, overflow: Overflow) -> None:
        self.owner = owner
        self.overflow = overflow
        self.closed = False
        self.on_overflow: Callable[[Envelope], None] = lambda _: None
        self._send, self._receive = trio.open_memory_channel[Envelope](capacity)
        self._again: collections.deque[Envelope] = collections.deque()
        self._control: collections.deque[tuple[int, Down]] = collections.deque()
        self._peak = 0

    def __repr__(self) -> str:
        return f"<Mailbox of {self.owner}: {self.statistics()}>"

    def statistics(self) -> MailboxStatistics:
        """A snapshot of the mailbox."""
        channel = self._receive.statistics()
        return MailboxStatistics(
            depth=channel.current_buffer_used + len(self._again),
            capacity=int(channel.max_buffer_size),
            peak=self._peak,
            control=len(self._control),
            blocked_senders=channel.tasks_waiting_send,
        )

    # The sender's side.

    def put_nowait(self, envelope: Envelope) -> None:
        """Queues the envelope. Raises `MailboxFull`, or `ActorDied` if the actor has ended for good."""
        if self.closed:
            raise ActorDied(f"{self.owner} has ended for good")
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            if self.overflow is not Overflow.DROP_OLDEST:
                raise MailboxFull(f"the mailbox of {self.owner} is full") from None
            oldest = self._receive.receive_nowait()
            self._send.send_nowait(envelope)
            self.on_overflow(oldest)
        self._peak = max(self._peak, self._receive.statistics().current_buffer_used)

    async def put(self, envelope: Envelope) -> None:
        """Queues the envelope, and waits for room if the policy is `BLOCK`. Raises as `put_nowait`."""
        try:
            # Without a checkpoint, so that a sender whose deadline has passed still succeeds where there is room.
            self.put_nowait(envelope)
        except MailboxFull:
            if self.overflow is not Overflow.BLOCK:
                raise
        else:
            return
        await self._send.send(envelope)
        self._peak = max(self._peak, self._receive.statistics().current_buffer_used)
        if envelope.lost:
            # `drain` took the envelope from this blocked sender, and has failed the asker's reply.
            raise ActorDied(f"{self.owner} has ended for good")

    def put_control(self, incarnation: int, event: Down) -> None:
        """Queues a control event for one incarnation. Control events are never dropped or refused."""
        self._control.append((incarnation, event))
        self.wake()

    def put_back(self, envelope: Envelope) -> None:
        """Puts a message back in front, so that `get` returns the message next."""
        self._again.appendleft(envelope)

    # The receiver's side.

    def wake(self) -> None:
        """Makes a waiting `get` check for control events and a stop."""
        if self._receive.statistics().tasks_waiting_receive:
            self._send.send_nowait(_WAKE)  # goes to the waiting task, and never into the buffer

    async def get(self, incarnation: int, stopping: Callable[[], bool]) -> Envelope | Down | None:
        """The next control event, else the next message; None once `stopping()` is true. Always a checkpoint."""
        while True:
            await trio.lowlevel.checkpoint()
            if stopping():
                return None
            while self._control:
                meant_for, event = self._control.popleft()
                if meant_for == incarnation:
                    return event
            if self._again:
                return self._again.popleft()
            try:
                return self._receive.receive_nowait()
            except trio.WouldBlock:
                envelope = await self._receive.receive()
            if envelope is not _WAKE:
                return envelope

    def drain(self) -> list[Envelope]:
        """Takes out all messages, those of senders that wait for room included, and marks them as lost."""
        taken = list(self._again)
        self._again.clear()
        self._control.clear()
        while True:
            try:
                taken.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        for envelope in taken:
            envelope.lost = True
        return taken
