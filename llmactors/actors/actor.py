"""What a programmer needs to write an actor: the class with its handlers, the context, and the specs."""

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
    """Handles one message at a time. Each incarnation is a new object, so no state of an old one is left.

    The value that a handler returns is the answer to an `ask`. An exception of a handler ends the incarnation, unless
    the spec declares the exception.
    """

    async def on_start(self, context: "Context") -> None:
        """Makes the actor ready. The supervisor waits for this before it starts the next child."""

    async def on_message(self, message: Any) -> object:
        """Handles one message."""
        raise MisuseError(f"{type(self).__name__} has no handler for {type(message).__name__}")

    async def on_down(self, down: Down) -> None:
        """Is called when an incarnation of a watched actor has ended."""

    async def on_stop(self) -> None:
        """Cleans up. Called once at the end of every incarnation, also after a crash or a failed start.

        All background tasks have ended by then. The cleanup is shielded from cancellation, and must end within the
        spec's `cleanup_s`.
        """


class Context:
    """What one incarnation can do besides answering. The context ends with the incarnation."""

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
        """Runs a background task until the incarnation ends. If the task raises, the incarnation crashes."""
        if self._nursery is None:
            raise MisuseError("spawn was called outside a running incarnation: call it from on_start on")
        self._nursery.start_soon(task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}")

    async def start(self, task: Callable[..., Awaitable[object]], *args: object) -> Any:
        """As `spawn`, but waits until the task calls `task_status.started`, and returns the value of that call."""
        if self._nursery is None:
            raise MisuseError("start was called outside a running incarnation: call it from on_start on")
        return await self._nursery.start(task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}")

    def watch(self, ref: ActorRef, *, since: int | None = None) -> None:
        """Calls `on_down` at the end of each incarnation of `ref` from now on; watching twice has no effect.

        A past end is told at once, if the newest incarnation has ended, or if incarnation `since` has ended.
        """
        if self._closed:
            raise MisuseError(f"{self!r} cannot watch {ref!r}, because the incarnation has ended")
        self._watched[ref] = None
        ref.add_watcher(self.ref.mailbox, self.incarnation, since=since)

    def exit(self) -> None:
        """Ends this incarnation normally after the message in hand."""
        self.exiting = True
        self.ref.mailbox.wake()

    def bind(self, nursery: trio.Nursery) -> None:
        """Gives the context the incarnation's nursery. For the runtime only."""
        self._nursery = nursery

    def close(self) -> None:
        """Ends all watches. For the runtime only."""
        self._closed = True
        for ref in self._watched:
            ref.remove_watcher(self.ref.mailbox, self.incarnation)


@attrs.frozen(eq=False)
class ActorSpec:
    """How to run one actor. All times are in seconds."""

    name: str
    factory: Callable[[], Actor]
    """Makes the actor object of each incarnation. State that must survive a crash is passed in by the factory."""
    restart: Restart = Restart.PERMANENT
    grace_s: float = 5.0
    """The time to stop before the actor is cancelled; 0 cancels at once."""
    start_s: float = 60.0
    """The time that `on_start` may take."""
    cleanup_s: float = 5.0
    """The time that `on_stop` may take."""
    budget_s: float = math.inf
    """The time that one message may take. A handler that takes longer crashes with `HandlerHung`."""
    declares: tuple[type[Exception], ...] = ()
    """Exceptions that are answers: the asker gets the exception, and the actor lives on."""
    redeliver: bool = False
    """Whether the next incarnation handles again the message that was in hand at a crash, once."""
    capacity: int = 64
    """The number of messages that the mailbox holds."""
    overflow: Overflow = Overflow.BLOCK
    ref: ActorRef = attrs.field(init=False)
    """The actor's address, valid before the first start and over all restarts."""

    def __attrs_post_init__(self) -> None:
        if self.capacity < 1:
            raise MisuseError(f"the mailbox of {self.name} has a capacity of {self.capacity}, and needs at least 1")
        if any(issubclass(MemoryError, declared) for declared in self.declares):
            raise MisuseError(
                f"{self.name} may not declare all exceptions, because then a crash would look like an answer"
            )
        object.__setattr__(self, "ref", ActorRef(self.name, capacity=self.capacity, overflow=self.overflow))


@attrs.frozen(eq=False)
class SupervisorSpec:
    """How to supervise children. Children start from first to last and stop from last to first."""

    name: str
    children: "tuple[ActorSpec | SupervisorSpec, ...]"
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    """The supervisor gives up at more restarts than this within `period_s` seconds."""
    period_s: float = 30.0
    backoff: Backoff = attrs.field(factory=Backoff)
    restart: Restart = Restart.PERMANENT

    def __attrs_post_init__(self) -> None:
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise MisuseError(f"supervisor {self.name} has two children with the same name, of {sorted(names)}")
        if self.intensity < 0 or self.period_s <= 0:
            raise MisuseError(
                f"supervisor {self.name} needs an intensity of at least 0, not {self.intensity}, "
                f"and a period_s above 0, not {self.period_s:g}"
            )
