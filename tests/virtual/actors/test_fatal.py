"""An error that nothing may survive ends the tree in order and at once, at whatever place and depth it happens."""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import (
    Actor,
    ActorDied,
    ActorSpec,
    Context,
    Exit,
    Observer,
    Phase,
    Restart,
    SupervisorSpec,
    Tree,
    run_phases,
)

FATAL: Sequence[Callable[[], BaseException]] = (
    MemoryError,
    KeyboardInterrupt,
    lambda: SystemExit(3),
    lambda: trio.TrioInternalError("broken"),
)
DEPTHS = (1, 2, 3)


@attrs.define
class Events(Observer):
    """What the observer was told, and the error that it raises when an actor starts for the n-th time."""

    lines: list[str] = attrs.field(factory=list)
    raises: BaseException | None = None
    at: str = ""

    def _tell(self, event: str, line: str) -> None:
        self.lines.append(line)
        if self.raises is not None and self.at == event:
            error, self.raises = self.raises, None
            raise error

    def actor_started(self, actor: str, incarnation: int) -> None:
        self._tell("actor_started", f"started {actor}")

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        self._tell("actor_exited", f"exited {actor}")

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        self._tell("restarting", f"restarting {children[0]}")

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        self._tell("gave_up", f"gave up on {child}")

    def doomed(self, actor: str, error: BaseException) -> None:
        self._tell("doomed", f"doomed {actor}")

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        self._tell("dead_letter", f"dead letter {actor}")


class Faulty(Actor):
    """Raises `error` at `place`: its start, its message, its background task, its cleanup, or a death notice."""

    def __init__(self, place: str, error: BaseException) -> None:
        self._place = place
        self._error = error

    async def on_start(self, context: Context) -> None:
        if self._place == "start":
            await trio.sleep(0.5)
            raise self._error
        if self._place == "task":
            context.spawn(self._fail)

    async def on_message(self, _: object) -> None:
        if self._place == "message":
            raise self._error
        raise ValueError("an ordinary crash")

    async def on_stop(self) -> None:
        if self._place == "cleanup":
            raise self._error

    async def _fail(self) -> None:
        await trio.sleep(0.5)
        raise self._error


def nested(child: ActorSpec, depth: int) -> SupervisorSpec:
    """`child` below `depth` supervisors, each of which has a quiet actor too."""
    found = SupervisorSpec("level1", (ActorSpec("quiet1", Actor), child))
    for level in range(2, depth + 1):
        found = SupervisorSpec(f"level{level}", (ActorSpec(f"quiet{level}", Actor), found))
    return found


async def provoke(tree: Tree, child: ActorSpec, *, stops: bool) -> None:
    """Runs the tree, and tells the child a message."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(1)
        child.ref.tell_nowait("fail")
        await trio.sleep(1)
        if stops:
            tree.stop()


async def ending(run: Callable[[], Awaitable[object]]) -> tuple[BaseException, float]:
    """The error that ends `run`, without groups, and the time until then."""
    begun = trio.current_time()
    try:
        await run()
    except BaseException as error:  # noqa: BLE001 - the tests raise interrupts too
        found = error
        while isinstance(found, BaseExceptionGroup):
            (found,) = found.exceptions
        return found, trio.current_time() - begun
    raise AssertionError("nothing was raised")


def has_itself_as_cause(error: BaseException) -> bool:
    """Whether the error is in the chain of its own causes and contexts, or in a group there."""
    pending, seen = [error.__cause__, error.__context__], set[int]()
    while pending:
        current = pending.pop()
        if current is error:
            return True
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            pending += [current.__cause__, current.__context__]
            if isinstance(current, BaseExceptionGroup):
                pending += current.exceptions
    return False


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("place", ["start", "message", "task", "cleanup"])
@pytest.mark.parametrize("make", FATAL)
async def test_fatal_error_ends_the_tree_without_a_restart(
    make: Callable[[], BaseException], place: str, depth: int, autojump_clock: MockClock
) -> None:
    error, events = make(), Events()
    child = ActorSpec("faulty", lambda: Faulty(place, error))
    tree = Tree(nested(child, depth), observer=events)
    raised, took_s = await ending(lambda: provoke(tree, child, stops=False))
    assert raised is error
    assert took_s <= 2.1
    assert not has_itself_as_cause(raised)
    assert not [line for line in events.lines if line.startswith(("restarting", "gave up"))]
    assert len([line for line in events.lines if line.startswith("doomed")]) == 1
    assert tree.doomed.is_set()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("event", ["actor_started", "actor_exited", "restarting", "dead_letter", "gave_up"])
@pytest.mark.parametrize("make", FATAL)
async def test_fatal_error_in_an_observer_ends_the_tree(
    make: Callable[[], BaseException], event: str, depth: int, autojump_clock: MockClock
) -> None:
    error = make()
    child = ActorSpec("crashes", lambda: Faulty("nowhere", error))
    spec = nested(child, depth)
    if event == "gave_up":
        spec = SupervisorSpec("root", (SupervisorSpec("strict", (child,), intensity=0), ActorSpec("other", Actor)))
    tree = Tree(spec, observer=Events(raises=error, at=event))
    raised, took_s = await ending(lambda: provoke(tree, child, stops=False))
    assert raised is error
    assert took_s <= 2.1
    assert all(actor.state == "stopped" for actor in tree.actors())


@pytest.mark.parametrize("place", ["message", "cleanup"])
async def test_fatal_error_during_a_stop_is_raised(place: str, autojump_clock: MockClock) -> None:
    error = MemoryError()
    child = ActorSpec("faulty", lambda: Faulty(place if place == "cleanup" else "nowhere", error))
    events = Events(raises=error if place == "message" else None, at="actor_exited")
    tree = Tree(nested(child, 2), observer=events)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            tree.stop()

    raised, took_s = await ending(run)
    assert raised is error
    assert took_s <= 1


class Swallowing(Actor):
    """Raises a group with a fatal error in it, though the actor declares groups."""

    async def on_message(self, _: object) -> None:
        raise ExceptionGroup("two", [ValueError("no"), MemoryError("none left")])


async def test_declared_group_does_not_hide_a_fatal_error(autojump_clock: MockClock) -> None:
    child = ActorSpec("swallows", Swallowing, declares=(ExceptionGroup,))
    tree = Tree(SupervisorSpec("root", (child,)))
    raised, _ = await ending(lambda: provoke(tree, child, stops=False))
    assert isinstance(raised, MemoryError)


class Asking(Actor):
    """Asks a sibling in its cleanup, and keeps what came of that."""

    def __init__(self, other: ActorSpec, outcomes: list[str]) -> None:
        self._other = other
        self._outcomes = outcomes

    async def on_stop(self) -> None:
        begun = trio.current_time()
        try:
            await self._other.ref.ask("hello")
        except ActorDied:
            self._outcomes.append(f"died after {trio.current_time() - begun:g}")


class Ends(Actor):
    """Ends normally at its first message."""

    async def on_start(self, context: Context) -> None:
        self._context = context

    async def on_message(self, _: object) -> None:
        self._context.exit()


@pytest.mark.parametrize("how", ["stopped before", "crashes during the stop", "stopped with its supervisor"])
async def test_ask_to_a_sibling_that_stopped_fails_at_once(how: str, autojump_clock: MockClock) -> None:
    outcomes: list[str] = []
    if how == "stopped before":
        other = ActorSpec("other", Actor)
        asks = ActorSpec("asks", lambda: Asking(other, outcomes))
        spec = SupervisorSpec("root", (asks, other))
    elif how == "stopped with its supervisor":
        other = ActorSpec("other", Actor)
        asks = ActorSpec("asks", lambda: Asking(other, outcomes))
        spec = SupervisorSpec("root", (asks, SupervisorSpec("below", (other,))))
    else:
        other = ActorSpec("other", Ends, restart=Restart.PERMANENT)
        asks = ActorSpec("asks", lambda: Asking(other, outcomes))
        spec = SupervisorSpec("root", (other, asks))
    tree, begun = Tree(spec), trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        if how == "crashes during the stop":
            other.ref.tell_nowait("end")
        tree.stop()
    assert outcomes == ["died after 0"]
    assert trio.current_time() - begun < 0.1


@pytest.mark.parametrize("make", FATAL)
async def test_fatal_error_in_a_shutdown_phase_is_raised(
    make: Callable[[], BaseException], autojump_clock: MockClock
) -> None:
    error, ran = make(), list[str]()

    async def fail() -> None:
        raise error

    async def next_phase() -> None:
        ran.append("next")

    raised, _ = await ending(lambda: run_phases([Phase("a", fail), Phase("b", next_phase)], overall_s=5))
    assert raised is error
    assert ran == []
