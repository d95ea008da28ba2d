"""The address of an actor, which stays the same over restarts, and is the only way to send the actor a message."""

import math
from typing import Any, Generic, overload

import attrs
import trio
from typing_extensions import TypeVar

from llmactors.actors.envelope import Down, Envelope, Exit, Question, R, Reply
from llmactors.actors.errors import MessageExpired, MisuseError
from llmactors.actors.mailbox import Mailbox, Overflow

M_contra = TypeVar("M_contra", contravariant=True, default=Any)
"""The messages that an actor takes."""


@attrs.define(eq=False)
class ActorStatus:
    """The newest incarnation, and how the last one ended. Only the runtime writes this."""

    incarnation: int = 0
    """The newest incarnation's number, counted from 1; 0 before the first."""
    ended: int = 0
    """The newest incarnation that has ended."""
    running: bool = False
    """Whether the newest incarnation has started and not ended."""
    last_exit: Exit | None = None
    """How the incarnation `ended` has ended."""
    watchers: dict[tuple[Mailbox, int], None] = attrs.field(factory=dict)
    """The watchers in the order of their watches: a mailbox, and the incarnation that reads the mailbox."""


class ActorRef(Generic[M_contra]):
    """Sends messages to an actor: `tell` expects no answer, `ask` waits for one.

    Both may be called before the actor's first start and during a restart. The mailbox then keeps the message for the
    next incarnation. `M_contra` is what the actor takes: a class of messages, or a union of them.
    """

    def __init__(self, name: str, *, capacity: int, overflow: Overflow) -> None:
        self.path = name
        """The actor's path in its tree; the bare name while the actor is in no tree."""
        self.mailbox = Mailbox(name, capacity, overflow)
        self.status = ActorStatus()
        self._is_bound = False

    def __repr__(self) -> str:
        state = "running" if self.status.running else "down"
        return f"<ActorRef {self.path}#{self.status.incarnation} {state} mailbox={self.mailbox.statistics().depth}>"

    @property
    def incarnation(self) -> int:
        """The newest incarnation's number; 0 before the first."""
        return self.status.incarnation

    @property
    def running(self) -> bool:
        """Whether an incarnation is up. The incarnation may have ended by the time a message arrives."""
        return self.status.running

    def tell_nowait(self, message: M_contra, *, deadline: float = math.inf, incarnation: int | None = None) -> None:
        """Queues `message` at once.

        Raises `MailboxFull`, or `ActorDied` if the actor has ended for good. `deadline` is on Trio's clock. With
        `incarnation` only that incarnation of the actor handles the message.
        """
        self.mailbox.put_nowait(Envelope(message, None, deadline, incarnation))

    async def tell(self, message: M_contra, *, deadline: float = math.inf, incarnation: int | None = None) -> None:
        """As `tell_nowait`, but waits for room if the mailbox's policy is `BLOCK`."""
        await self.mailbox.put(Envelope(message, None, deadline, incarnation))

    @overload
    async def ask(self, message: Question[R], *, incarnation: int | None = None) -> R: ...

    @overload
    async def ask(self, message: M_contra, *, incarnation: int | None = None) -> object: ...

    async def ask(self, message: Any, *, incarnation: int | None = None) -> Any:
        """Sends `message` and returns the answer. The answer to a `Question[R]` is an `R`.

        Ends in exactly one of: the answer; an error that the actor declares; `ActorDied`; `MailboxFull`;
        `MessageExpired`, if the message was found expired unread; or the cancellation of the caller's own scope, whose
        deadline travels with the message. After anything but the answer, nobody knows what the actor did with the
        message. Two actors must never ask each other, because both would wait until a deadline.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        reply = Reply()
        envelope = Envelope(message, reply, trio.current_effective_deadline(), incarnation)
        if envelope.deadline <= trio.current_time():
            raise MessageExpired(f"the deadline passed before {self.path} was asked")
        await self.mailbox.put(envelope)
        return await reply.wait()

    def bind(self, path: str) -> None:
        """Gives the actor its place in a tree. For the runtime only."""
        if self._is_bound:
            raise MisuseError(f"{path} has the same spec as {self.path}: two actors cannot share one address")
        self._is_bound = True
        self.path = self.mailbox.owner = path

    def unbind(self) -> None:
        """Takes back a `bind` that did not come to a place in a tree. For the runtime only."""
        self._is_bound = False

    def add_watcher(self, watcher: Mailbox, watcher_incarnation: int, *, since: int | None = None) -> None:
        """Adds a watcher. For `Context.watch` only."""
        self.status.watchers[watcher, watcher_incarnation] = None
        seen = since if since is not None else 0 if self.status.running else self.status.ended
        if 0 < seen <= self.status.ended and self.status.last_exit is not None:
            watcher.put_control(watcher_incarnation, Down(self.path, seen, self.status.last_exit))

    def remove_watcher(self, watcher: Mailbox, watcher_incarnation: int) -> None:
        """Removes a watcher whose incarnation has ended. For the runtime only."""
        self.status.watchers.pop((watcher, watcher_incarnation), None)
