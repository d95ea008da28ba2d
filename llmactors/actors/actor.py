"""What a programmer needs to write an actor: the class with its handlers, the context, and the specs."""

import functools
import math
from collections.abc import Awaitable, Callable
from typing import Any, Generic

import attrs
import trio

from llmactors.actors.backoff import Backoff
from llmactors.actors.children import SupervisorRef
from llmactors.actors.envelope import Down, Envelope, Reply
from llmactors.actors.errors import ActorDied, MisuseError
from llmactors.actors.mailbox import Overflow
from llmactors.actors.planner import Restart, Strategy
from llmactors.actors.ref import ActorRef, M_contra
from llmactors.actors.registry import Registry
from llmactors.actors.timers import Timer


class Actor(Generic[M_contra]):
    """Handles one message at a time. Each incarnation is a new object, so no state of an old one is left.

    `M_contra` is what the actor takes: a class of messages, or a union of them. The value that a handler returns is the
    answer to an `ask`. An exception of a handler ends the incarnation, unless the spec declares the exception.
    """

    async def on_start(self, context: "Context") -> None:
        """Makes the actor ready. The supervisor waits for this before it starts the next child."""

    async def on_message(self, message: M_contra) -> object:
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

    def __init__(self, ref: ActorRef[Any], incarnation: int, registry: Registry) -> None:
        self.ref = ref
        self.incarnation = incarnation
        self.exiting = False
        self.in_hand: Envelope | None = None
        """The message that is being handled. Only the runtime writes this."""
        self._registry = registry
        self._closed = False
        self._nursery: trio.Nursery | None = None
        self._watched: dict[ActorRef[Any], None] = {}
        self._deferred: dict[Reply, None] = {}

    def __repr__(self) -> str:
        return f"<Context of {self.ref.path}#{self.incarnation}>"

    def spawn(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        """Runs a background task until the incarnation ends. If the task raises, the incarnation crashes."""
        self._running_nursery("spawn").start_soon(
            task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}"
        )

    async def start(self, task: Callable[..., Awaitable[object]], *args: object) -> Any:
        """As `spawn`, but waits until the task calls `task_status.started`, and returns the value of that call."""
        return await self._running_nursery("start").start(
            task, *args, name=f"{self.ref.path}:{getattr(task, '__name__', task)}"
        )

    def tell_after(self, delay_s: float, message: object) -> Timer:
        """Sends `message` to this incarnation after `delay_s` seconds. The timer ends with the incarnation."""
        timer = Timer(self.ref.mailbox, self.incarnation, message)
        self._running_nursery("tell_after").start_soon(timer.run_once, delay_s, name=f"{self.ref.path}:timer")
        return timer

    def tell_every(self, period_s: float, message: object) -> Timer:
        """Sends `message` to this incarnation every `period_s` seconds. The timer ends with the incarnation."""
        if not 0 < period_s < math.inf:
            raise MisuseError(f"{self.ref.path} cannot have a timer with a period of {period_s:g} s")
        timer = Timer(self.ref.mailbox, self.incarnation, message)
        self._running_nursery("tell_every").start_soon(timer.run_again, period_s, name=f"{self.ref.path}:timer")
        return timer

    def defer(self) -> Reply:
        """Takes over the answer of the question in hand, so that the actor can handle other messages meanwhile.

        Answer later with `set`, or with `fail` and an error. What the handler returns is ignored then. At the end of
        the incarnation the asker gets `ActorDied` if there is no answer yet. The reply to a `tell` reaches nobody.
        Raises `MisuseError` if no message is in hand, or if its answer was taken over already.
        """
        if self.in_hand is None:
            raise MisuseError(f"{self.ref.path} has no message in hand whose answer it could defer")
        reply = self.in_hand.reply or Reply()
        if reply in self._deferred:
            raise MisuseError(f"{self.ref.path} has deferred the answer of this message already")
        self._deferred[reply] = None
        reply.on_done = functools.partial(self._deferred.pop, reply, None)
        return reply

    def is_deferred(self, reply: Reply) -> bool:
        """Whether the answer is still to come. For the runtime only."""
        return reply in self._deferred

    def take_back(self, envelope: Envelope) -> None:
        """Lets the next incarnation answer a message that it handles again. For the runtime only."""
        if envelope.reply is not None:
            self._deferred.pop(envelope.reply, None)

    def find(self, name: str) -> ActorRef[Any] | None:
        """The address of the actor of this tree with the `registered_name` `name`; None where no actor has the name."""
        return self._registry.find(name)

    def watch(self, ref: ActorRef[Any], *, since: int | None = None) -> None:
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

    def _running_nursery(self, what: str) -> trio.Nursery:
        if self._nursery is None:
            raise MisuseError(f"{what} was called outside a running incarnation: call it from on_start on")
        return self._nursery

    def close(self) -> None:
        """Ends all watches and all answers that are still to come. For the runtime only."""
        self._closed = True
        for reply in tuple(self._deferred):
            reply.fail(ActorDied(f"{self.ref.path} ended before it answered"))
        for ref in self._watched:
            ref.remove_watcher(self.ref.mailbox, self.incarnation)


@attrs.frozen(eq=False)
class ActorSpec(Generic[M_contra]):
    """How to run one actor. All times are in seconds. A spec belongs to one place in one tree."""

    name: str
    factory: Callable[[], Actor[M_contra]]
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
    """Whether the next incarnation handles again the message that was in hand at the end of the last one. A message
    that crashed two incarnations, or was in hand at the end of `deliveries_max`, is given up."""
    deliveries_max: int = 10
    """With `redeliver`: the most incarnations that may end with one message in hand, whatever ended them."""
    capacity: int = 64
    """The number of messages that the mailbox holds."""
    overflow: Overflow = Overflow.BLOCK
    registered_name: str = ""
    """The name under which `Context.find` and `Tree.find` find the actor, unique in its tree; empty for none."""
    ref: ActorRef[M_contra] = attrs.field(init=False)
    """The actor's address, valid before the first start and over all restarts."""

    def __attrs_post_init__(self) -> None:
        if self.capacity < 1:
            raise MisuseError(f"the mailbox of {self.name} has a capacity of {self.capacity}, and needs at least 1")
        if self.deliveries_max < 1:
            raise MisuseError(f"{self.name} allows {self.deliveries_max} deliveries of a message, and needs at least 1")
        if any(issubclass(MemoryError, declared) for declared in self.declares):
            raise MisuseError(
                f"{self.name} may not declare all exceptions, because then a crash would look like an answer"
            )
        object.__setattr__(self, "ref", ActorRef(self.name, capacity=self.capacity, overflow=self.overflow))


@attrs.frozen(eq=False)
class SupervisorSpec:
    """How to supervise children. Children start from first to last and stop from last to first.

    A spec belongs to one place in one tree. `ref` starts and stops more children while the supervisor runs.
    """

    name: str
    children: "tuple[ActorSpec[Any] | SupervisorSpec, ...]" = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 5
    """The supervisor gives up at more restarts than this within `period_s` seconds."""
    period_s: float = 30.0
    backoff: Backoff = attrs.field(factory=Backoff)
    restart: Restart = Restart.PERMANENT
    ref: SupervisorRef = attrs.field(init=False)
    """The supervisor's address, valid over all restarts."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ref", SupervisorRef(self.name))
        names = [child.name for child in self.children]
        if len(set(names)) != len(names):
            raise MisuseError(f"supervisor {self.name} has two children with the same name, of {sorted(names)}")
        if self.intensity < 0 or self.period_s <= 0:
            raise MisuseError(
                f"supervisor {self.name} needs an intensity of at least 0, not {self.intensity}, "
                f"and a period_s above 0, not {self.period_s:g}"
            )
