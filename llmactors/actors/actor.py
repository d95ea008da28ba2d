"""What an actor is to the people who write one: a class with handlers, a context to act through, and a spec."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from llmactors.actors.backoff import Backoff
from llmactors.actors.envelope import Down
from llmactors.actors.errors import MisuseError
from llmactors.actors.mailbox import Overflow
from llmactors.actors.planner import Restart, Strategy
from llmactors.actors.ref import ActorRef


class Actor:
    """Handles one message at a time. A new object is made for every incarnation, so it never sees old state.

    What a handler returns answers an `ask`. What it raises ends the incarnation, unless the spec declares it.
    """

    async def on_start(self, context: "Context") -> None:
        """Makes the actor ready. Its supervisor waits for this before it starts the next child."""

    async def on_message(self, message: Any) -> object:
        """Handles one message."""
        raise MisuseError(f"{type(self).__name__} has no handler for {type(message).__name__}")

    async def on_down(self, down: Down) -> None:
        """Hears that a watched actor's incarnation ended."""

    async def on_stop(self) -> None:
        """Cleans up. Called once at the end of every incarnation however it ends, also after a failed start.

        Background tasks have ended by then. It is shielded from cancellation and bounded by the spec's `cleanup_s`.
        """


class Context:
    """What one incarnation may do besides answering. Handed to `on_start`; useless after the incarnation's end."""

    def __init__(self, ref: ActorRef, incarnation: int) -> None:
        self.ref = ref
        self.incarnation = incarnation
        self.exiting = False
        self._closed = False
        self._nursery: trio.Nursery | None = None
        self._watched: dict[ActorRef, None] = {}

    def __repr__(self) -> str:
        return f"<Context of {self.ref.path}#{self.incarnation}>"

    def spawn(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Runs a background task that lives as long as the incarnation. If it raises, the incarnation crashes."""
        if self._nursery is None:
            raise MisuseError("spawn before on_start")
        self._nursery.start_soon(task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}")

    async def start(self, task: Callable[..., Awaitable[object]], *args: object) -> Any:
        """As `spawn`, but waits for the task's `task_status.started` and returns its value."""
        if self._nursery is None:
            raise MisuseError("start before on_start")
        return await self._nursery.start(task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}")

    def watch(self, ref: ActorRef, *, since: int | None = None) -> None:
        """From now on `on_down` hears of each death of `ref`'s incarnations; once, however often it is watched.

        Past deaths are told too: at once, if the newest incarnation is dead, or if incarnation `since` is.
        """
        if self._closed:
            raise MisuseError(f"{self!r} has ended: it can watch no more")
        self._watched[ref] = None
        ref.add_watcher(self.ref.mailbox, self.incarnation, since=since)

    def exit(self) -> None:
        """Ends this incarnation normally after the message in hand."""
        self.exiting = True
        self.ref.mailbox.wake()

    def bind(self, nursery: trio.Nursery) -> None:
        """For the runtime."""
        self._nursery = nursery

    def close(self) -> None:
        """For the runtime."""
        self._closed = True
        for ref in self._watched:
            ref.remove_watcher(self.ref.mailbox, self.incarnation)


@attrs.frozen(eq=False)
class ActorSpec:
    """How to run one actor. All times in seconds."""

    name: str
    factory: Callable[[], Actor]
    """Makes a new actor object for each incarnation; all that must outlive one is handed in from outside."""
    restart: Restart = Restart.PERMANENT
    grace_s: float = 5.0
    """How long it may take to stop before it is cancelled. 0 cancels at once."""
    start_s: float = 60.0
    """How long `on_start` may take."""
    cleanup_s: float = 5.0
    """How long `on_stop` may take."""
    budget_s: float = math.inf
    """How long one message may take: a hang becomes a crash."""
    declares: tuple[type[Exception], ...] = ()
    """Errors that are answers: they go to the asker, and the actor lives on."""
    redeliver: bool = False
    """True: a message in hand at a crash is handled again by the next incarnation, once."""
    capacity: int = 64
    """How many messages the mailbox holds."""
    overflow: Overflow = Overflow.BLOCK
    ref: ActorRef = attrs.field(init=False)
    """The actor's address: valid before it starts, and over all restarts."""

    def __attrs_post_init__(self) -> None:
        if self.capacity < 1:
            raise MisuseError(f"the mailbox of {self.name} needs a capacity of at least 1")
        if any(issubclass(MemoryError, declared) for declared in self.declares):
            raise MisuseError(f"{self.name} may not declare all errors: a crash would look like an answer")
        object.__setattr__(self, "ref", ActorRef(self.name, capacity=self.capacity, overflow=self.overflow))


@attrs.frozen(eq=False)
class SupervisorSpec:
    """How to supervise some children, which start left to right and stop right to left."""

    name: str
    children: "tuple[ActorSpec | SupervisorSpec, ...]"
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    """More restarts than this within `period_s` seconds, and the supervisor gives up."""
    period_s: float = 30.0
    backoff: Backoff = attrs.field(factory=Backoff)
    restart: Restart = Restart.PERMANENT

    def __attrs_post_init__(self) -> None:
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise MisuseError(f"supervisor {self.name} has two children of one name: {sorted(names)}")
        if self.intensity < 0 or self.period_s <= 0:
            raise MisuseError(f"supervisor {self.name} needs an intensity of at least 0 and a period above 0")
