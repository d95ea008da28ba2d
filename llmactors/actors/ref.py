"""The address of an actor: stable over restarts, cheap to hand around, and the only way to reach it."""

import math

import attrs
import trio

from llmactors.actors.envelope import Down, Envelope, Exit, Reply
from llmactors.actors.errors import MessageExpired
from llmactors.actors.mailbox import Mailbox, Overflow


@attrs.define(eq=False)
class Life:
    """Which incarnation lives, and how the last one ended. Kept by the runtime, read by everybody."""

    incarnation: int = 0
    """The newest incarnation's number, counted from 1; 0 before the first."""
    ended: int = 0
    """The newest incarnation that has ended."""
    running: bool = False
    """The newest incarnation has started and not ended."""
    last_exit: Exit | None = None
    """How incarnation `ended` ended."""
    watchers: dict[tuple[Mailbox, int], None] = attrs.field(factory=dict)
    """Who is told, in the order in which they asked: a mailbox and the incarnation that reads it."""


class ActorRef:
    """Send with `tell`, ask with `ask`.

    Both may be called before the actor's first start and during a restart: the mailbox keeps the message for the next
    incarnation.
    """

    def __init__(self, name: str, *, capacity: int, overflow: Overflow) -> None:
        self.path = name
        """The actor's path in the tree, once it is part of one; its bare name before."""
        self.mailbox = Mailbox(name, capacity, overflow)
        self.life = Life()

    def __repr__(self) -> str:
        state = "running" if self.life.running else "down"
        return f"<ActorRef {self.path}#{self.life.incarnation} {state} mailbox={self.mailbox.statistics().depth}>"

    @property
    def incarnation(self) -> int:
        """The newest incarnation's number; 0 before the first."""
        return self.life.incarnation

    @property
    def running(self) -> bool:
        """An incarnation is up. A hint: it may be gone by the time a message arrives."""
        return self.life.running

    def tell_nowait(self, message: object, *, deadline: float = math.inf, incarnation: int | None = None) -> None:
        """Queues `message` at once.

        Raises `MailboxFull` if the mailbox is full (unless it drops the oldest), `ActorDied` if the
        actor has ended for good. `deadline` is on Trio's clock; `incarnation` restricts it to that one.
        """
        self.mailbox.put_nowait(Envelope(message, deadline=deadline, incarnation=incarnation))

    async def tell(self, message: object, *, deadline: float = math.inf, incarnation: int | None = None) -> None:
        """As `tell_nowait`, but waits for room where the mailbox's policy is `BLOCK`."""
        await self.mailbox.put(Envelope(message, deadline=deadline, incarnation=incarnation))

    async def ask(self, message: object, *, incarnation: int | None = None) -> object:
        """Sends `message` and returns the answer.

        Ends in exactly one of: the reply; an error that the actor declared; `ActorDied`;
        `MailboxFull`; `MessageExpired`, where the message expired unread under the caller's cancel
        scope, or that scope's own cancellation. After any but the reply, what the actor did with the message is
        not known. Two actors must never ask each other: they would wait until a deadline.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        reply = Reply()
        envelope = Envelope(message, reply, trio.current_effective_deadline(), incarnation)
        if envelope.deadline <= trio.current_time():
            raise MessageExpired(f"the deadline passed before {self.path} was asked")
        await self.mailbox.put(envelope)
        return await reply.wait()

    def add_watcher(self, watcher: Mailbox, watcher_incarnation: int, *, since: int | None = None) -> None:
        """For `Context.watch`, which see."""
        self.life.watchers[watcher, watcher_incarnation] = None
        seen = since if since is not None else 0 if self.life.running else self.life.ended
        if 0 < seen <= self.life.ended and self.life.last_exit is not None:
            watcher.put_control(watcher_incarnation, Down(self.path, seen, self.life.last_exit))

    def remove_watcher(self, watcher: Mailbox, watcher_incarnation: int) -> None:
        """For the runtime: an incarnation's watches end with it."""
        self.life.watchers.pop((watcher, watcher_incarnation), None)
