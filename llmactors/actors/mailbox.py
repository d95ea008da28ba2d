"""A bounded mailbox that outlives the incarnations of its actor. Control events are received before messages."""

import collections
import enum
import threading
from collections.abc import Callable

import attrs
import trio

from llmactors.actors.envelope import Down, Envelope
from llmactors.actors.errors import ActorDied, MailboxFull, MisuseError

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
    task may receive at a time. Once the actor has started, only the thread of its event loop may send: a message from
    another thread could not wake the loop.
    """

    def __init__(self, owner: str, capacity: int, overflow: Overflow) -> None:
        self.owner = owner
        self.overflow = overflow
        self.closed = False
        self.on_overflow: Callable[[Envelope], None] = lambda _: None
        self._send, self._receive = trio.open_memory_channel[Envelope](capacity)
        self._capacity = capacity
        self._again: collections.deque[Envelope] = collections.deque()
        self._control: collections.deque[tuple[int, Down]] = collections.deque()
        self._thread: int | None = None
        # Counted here, because the channel makes an object for each look at its length.
        self._waiting = 0
        """Messages in the buffer, and those of senders that wait for room."""
        self._blocked = 0
        """Senders in a wait for room. The message of one that has not run since may be in the buffer already."""
        self._peak = 0

    def __repr__(self) -> str:
        return f"<Mailbox of {self.owner}: {self.statistics()}>"

    def statistics(self) -> MailboxStatistics:
        """A snapshot of the mailbox."""
        channel = self._receive.statistics()
        return MailboxStatistics(
            depth=channel.current_buffer_used + len(self._again),
            capacity=self._capacity,
            peak=self._peak,
            control=len(self._control),
            blocked_senders=channel.tasks_waiting_send,
        )

    def open(self) -> None:
        """Accepts messages from now on, from this thread only."""
        self.closed = False
        self._thread = threading.get_ident()

    # The sender's side.

    def put_nowait(self, envelope: Envelope) -> None:
        """Queues the envelope.

        Raises `MailboxFull`, `ActorDied` if the actor has ended for good, or `MisuseError` in another thread than the
        actor's.
        """
        self._check_sender()
        if not self._queue(envelope):
            self._overflow(envelope)

    async def put(self, envelope: Envelope) -> None:
        """Queues the envelope, and waits for room if the policy is `BLOCK`. Raises as `put_nowait`."""
        self._check_sender()
        # The buffer has at least so many messages. Where that says full, the try would only cost an exception.
        is_full = self._waiting - self._blocked >= self._capacity
        # Without a checkpoint, so that a sender whose deadline has passed still succeeds where there is room.
        if not is_full and self._queue(envelope):
            return
        if self.overflow is not Overflow.BLOCK:
            self._overflow(envelope)
            return
        self._waiting += 1
        self._blocked += 1
        try:
            await self._send.send(envelope)
        except BaseException:
            self._waiting -= 1
            raise
        finally:
            self._blocked -= 1
        if envelope.lost:
            # `drain` took the envelope from this blocked sender, and has failed the asker's reply.
            raise ActorDied(f"{self.owner} has ended for good")

    def _check_sender(self) -> None:
        if self._thread is not None and self._thread != threading.get_ident():
            raise MisuseError(
                f"a message to {self.owner} was sent from another thread: send it with `trio.from_thread.run_sync`"
            )
        if self.closed:
            raise ActorDied(f"{self.owner} has ended for good")

    def _queue(self, envelope: Envelope) -> bool:
        """Queues the envelope if there is room."""
        try:
            self._send.send_nowait(envelope)
        except trio.WouldBlock:
            return False
        self._waiting += 1
        if self._waiting > self._peak:
            self._peak = min(self._waiting, self._capacity)
        return True

    def _overflow(self, envelope: Envelope) -> None:
        if self.overflow is not Overflow.DROP_OLDEST:
            raise MailboxFull(f"the mailbox of {self.owner} is full")
        oldest = self._receive.receive_nowait()
        self._send.send_nowait(envelope)
        self.on_overflow(oldest)

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
            if self._waiting or self._control or self._again or stopping():
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
                envelope = self._receive.receive_nowait()
            except trio.WouldBlock:
                envelope = await self._receive.receive()
            if envelope is not _WAKE:
                self._waiting -= 1
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
            self._waiting -= 1
        for envelope in taken:
            envelope.lost = True
        return taken
