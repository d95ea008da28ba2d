"""A stop ends the actors in order and within their grace, whenever it comes; fatal errors end the whole tree."""

import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import Actor, ActorSpec, Backoff, Context, Observer, Restart, Strategy, SupervisorSpec, Tree
from llmactors.actors.errors import ActorDied, MisuseError, RestartIntensityExceeded
from llmactors.actors.registry import Registry

Hook = Callable[["Part"], Awaitable[object]]


async def nothing(_: "Part") -> None:
    """Does nothing."""


class Part(Actor):
    """Records when it is up, when it has ended, and how long its stop took."""

    def __init__(self, name: str, journal: list[str], start: Hook, work: Hook, stop: Hook) -> None:
        self.name = name
        self.journal = journal
        self.start, self.work, self.stop = start, work, stop

    def note(self, sign: str) -> None:
        self.journal.append(f"{trio.current_time():g} {sign}{self.name}")

    async def on_start(self, context: Context) -> None:
        self.context = context
        await self.start(self)
        self.note("+")

    async def on_message(self, message: object) -> None:
        await self.work(self)

    async def on_stop(self) -> None:
        await self.stop(self)
        self.note("-")


class World:
    def __init__(self) -> None:
        self.journal: list[str] = []

    def actor(
        self, name: str, *, start: Hook = nothing, work: Hook = nothing, stop: Hook = nothing, **settings: Any
    ) -> ActorSpec:
        return ActorSpec(name, lambda: Part(name, self.journal, start, work, stop), **settings)

    def actors(self, names: str) -> tuple[ActorSpec, ...]:
        return tuple(self.actor(name) for name in names)


def sleep(seconds: float) -> Hook:
    async def sleep(_: Part) -> None:
        await trio.sleep(seconds)

    return sleep


def shielded(seconds: float) -> Hook:
    async def sleep(_: Part) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)

    return sleep


def fail(error: BaseException) -> Hook:
    async def fail(_: Part) -> None:
        raise error

    return fail


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_cancel_from_outside_stops_actors_like_a_stop(how: str, autojump_clock: MockClock) -> None:
    """Children stop from right to left, each within its own grace, and supervisors without a limit."""
    world = World()
    slow = world.actor("c", work=sleep(math.inf), stop=sleep(1), grace_s=4)
    inner = SupervisorSpec("inner", (world.actor("b", work=sleep(math.inf), grace_s=20), slow))
    tree = Tree(SupervisorSpec("root", (world.actor("a"), inner, world.actor("d"))))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for node in tree.actors():
            await node.spec.ref.tell("work")
        await wait_all_tasks_blocked()
        world.journal.clear()
        if how == "stop":
            tree.stop()
            tree.stop()
        else:
            nursery.cancel_scope.cancel()
    assert world.journal == ["0 -d", "5 -c", "25 -b", "25 -a"]
    exits = [str(node.spec.ref.status.last_exit) for node in tree.actors()]
    assert exits == ["shutdown", "killed", "killed", "shutdown"]
    assert tree.root.statistics().last_exit == ("shutdown" if how == "stop" else "killed")


async def test_stop_lets_the_message_in_hand_end_within_grace(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.actor("a", work=sleep(3))
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for _ in range(3):
            await spec.ref.tell("work")
        await wait_all_tasks_blocked()
        tree.stop()
    assert world.journal == ["0 +a", "3 -a"]
    assert [letter.reason.value for letter in tree.dead_letters.newest] == ["stopped", "stopped"]


async def test_grace_of_zero_cancels_at_once(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.actor("a", work=sleep(3), grace_s=0)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await spec.ref.tell("work")
        await wait_all_tasks_blocked()
        tree.stop()
    assert world.journal == ["0 +a", "0 -a"]


async def test_shielded_handler_is_waited_for(autojump_clock: MockClock) -> None:
    """Nothing can cancel the handler, and the tree does not end without it."""
    world = World()
    spec = world.actor("a", work=shielded(100), grace_s=1)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await spec.ref.tell("work")
        await wait_all_tasks_blocked()
        tree.stop()
    assert world.journal == ["0 +a", "100 -a"]


async def test_hanging_cleanup_is_cancelled(autojump_clock: MockClock) -> None:
    world = World()
    spec = world.actor("b", stop=sleep(math.inf), cleanup_s=2)
    tree = Tree(SupervisorSpec("root", (world.actor("a"), spec)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.stop()
    assert world.journal == ["0 +a", "0 +b", "2 -a"]
    assert "HandlerHung: the cleanup of root/b" in str(spec.ref.status.last_exit)


@pytest.mark.parametrize("start", [sleep(10), shielded(10)], ids=["a start", "a start that shields itself"])
@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_during_a_start_cancels_the_start(how: str, start: Hook, autojump_clock: MockClock) -> None:
    """The start is cancelled, children that are up stop in order, and no other child starts."""
    world = World()
    inner = SupervisorSpec("inner", (world.actor("b"), world.actor("c", start=start), world.actor("d")))
    tree = Tree(SupervisorSpec("root", (world.actor("a"), inner, world.actor("e"))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(3)
        if how == "stop":
            tree.stop()
        else:
            nursery.cancel_scope.cancel()
    signs = [line.partition(" ")[2] for line in world.journal]
    assert [sign for sign in signs if sign != "+c"] == ["+a", "+b", "-c", "-b", "-a"]
    assert trio.current_time() == (3 if start.__qualname__.startswith("sleep") else 10)
    assert {node.statistics().state for node in tree.actors()} == {"stopped"}


@pytest.mark.parametrize("seconds", [1.0, 2.0])
async def test_stop_at_the_end_of_a_start_stops_the_child(seconds: float, autojump_clock: MockClock) -> None:
    """The child is stopped, whether the stop or the end of the start comes first."""
    world = World()
    tree = Tree(SupervisorSpec("root", (world.actor("a", start=sleep(2)), world.actor("b"))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(seconds)
        tree.stop()
    assert world.journal[-1].endswith("-a")
    assert {node.statistics().state for node in tree.actors()} == {"stopped"}


async def test_error_from_a_cancelled_start_is_ignored(autojump_clock: MockClock) -> None:
    async def stubborn(_: Part) -> None:
        try:
            await trio.sleep(10)
        except trio.Cancelled as cancelled:
            raise ValueError("was cancelled") from cancelled

    world = World()
    tree = Tree(SupervisorSpec("root", (world.actor("a"), world.actor("b", start=stubborn))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(3)
        tree.stop()
    assert world.journal == ["0 +a", "3 -b", "3 -a"]
    assert tree.statistics().last_exit == "shutdown"


async def test_stop_during_a_restart_cancels_the_restart(autojump_clock: MockClock) -> None:
    world = World()
    seconds = [0.0, 50.0]

    async def start(_: Part) -> None:
        await trio.sleep(seconds.pop(0))

    spec = world.actor("b", start=start)
    tree = Tree(SupervisorSpec("root", (world.actor("a"), spec), backoff=Backoff(first_s=1, jitter=0)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(3)
        tree.stop()
    assert world.journal == ["0 +a", "0 +b", "0 -b", "3 -b", "3 -a"]


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_during_a_backoff_starts_no_child(how: str, autojump_clock: MockClock) -> None:
    world = World()
    spec = world.actor("b")
    tree = Tree(SupervisorSpec("root", (world.actor("a"), spec), backoff=Backoff(first_s=100, cap_s=100)))
    told: list[str] = []

    async def ask() -> None:
        with pytest.raises(ActorDied):
            await spec.ref.ask("work")
        told.append("died")

    async with trio.open_nursery() as askers, trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(3)
        askers.start_soon(ask)
        await wait_all_tasks_blocked()
        if how == "stop":
            tree.stop()
        else:
            nursery.cancel_scope.cancel()
    assert world.journal == ["0 +a", "0 +b", "0 -b", "3 -a"]
    assert told == ["died"]


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_during_a_group_restart_waits_for_a_hanging_child(how: str, autojump_clock: MockClock) -> None:
    """No child starts after that. A cancel gives the hanging child its whole grace again."""
    world = World()
    hanging = world.actor("c", work=sleep(math.inf), grace_s=10)
    root = SupervisorSpec(
        "root", (world.actor("a"), world.actor("b"), hanging), Strategy.ONE_FOR_ALL, backoff=Backoff(first_s=0)
    )
    tree = Tree(root)
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await hanging.ref.tell("work")
        tree.actor("root/a").crash(ValueError("x"))
        await trio.sleep(4)
        if how == "stop":
            tree.stop()
        else:
            nursery.cancel_scope.cancel()
    end = 10 if how == "stop" else 14
    assert world.journal == ["0 +a", "0 +b", "0 +c", "0 -a", f"{end} -c", f"{end} -b"]


async def test_child_that_does_not_stop_delays_its_group_by_its_grace(autojump_clock: MockClock) -> None:
    world = World()
    hanging = world.actor("b", work=sleep(math.inf), grace_s=10)
    tree = Tree(SupervisorSpec("root", (world.actor("a"), hanging), Strategy.ONE_FOR_ALL))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await hanging.ref.tell("work")
        tree.actor("root/a").crash(ValueError("x"))
        await trio.sleep(11)
        assert world.journal == ["0 +a", "0 +b", "0 -a", "10 -b", "10 +a", "10 +b"]
        tree.stop()


@pytest.mark.parametrize("restart", list(Restart))
async def test_crash_during_a_stop_has_no_effect(restart: Restart, autojump_clock: MockClock) -> None:
    async def crash_soon(_: Part) -> None:
        await trio.sleep(1)
        raise ValueError("late")

    world = World()
    spec = world.actor("b", work=crash_soon, restart=restart)
    tree = Tree(SupervisorSpec("root", (world.actor("a"), spec), intensity=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await spec.ref.tell("work")
        await wait_all_tasks_blocked()
        tree.stop()
    assert world.journal == ["0 +a", "0 +b", "1 -b", "1 -a"]
    assert str(spec.ref.status.last_exit) == "crashed: ValueError: late"
    assert tree.statistics().last_exit == "shutdown"


async def test_crash_and_stop_at_the_same_moment_end_as_a_stop(autojump_clock: MockClock) -> None:
    world = World()
    tree = Tree(SupervisorSpec("root", world.actors("ab"), intensity=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.actor("root/a").crash(ValueError("x"))
        tree.stop()
    assert tree.statistics().last_exit == "shutdown"
    assert {node.statistics().state for node in tree.actors()} == {"stopped"}


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("intensity", [0, 5])
async def test_no_child_restarts_after_a_stop(intensity: int, steps: int, autojump_clock: MockClock) -> None:
    """This holds at every moment between a crash and the supervisor's reaction."""
    stopped_when: list[bool] = []

    class Listens(Observer):
        def restarting(self, *_: object, **__: object) -> None:
            stopped_when.append(stopped)

        def gave_up(self, *_: object, **__: object) -> None:
            stopped_when.append(stopped)

    async def run() -> None:
        with contextlib.suppress(RestartIntensityExceeded):
            await tree.run()

    stopped = False
    tree = Tree(SupervisorSpec("root", World().actors("ab"), intensity=intensity), observer=Listens())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        tree.actor("root/a").crash(ValueError("x"))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        stopped = True
        tree.stop()
    assert stopped_when in ([], [False])
    if not stopped_when:
        assert tree.statistics().last_exit == "shutdown"


async def test_supervisor_is_stopped_without_a_cancel(
    autojump_clock: MockClock,
) -> None:
    """A child of the supervisor has one grace, not two."""
    world = World()
    hanging = world.actor("c", work=sleep(math.inf), grace_s=20)
    inner = SupervisorSpec("inner", (world.actor("b"), hanging), Strategy.ONE_FOR_ALL)
    tree = Tree(SupervisorSpec("root", (world.actor("a"), inner)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await hanging.ref.tell("work")
        tree.actor("root/inner/b").crash(ValueError("x"))
        await trio.sleep(1)
        tree.stop()
    assert world.journal[3:] == ["0 -b", "20 -c", "20 -a"]


async def test_failed_cleanup_does_not_stop_the_shutdown(autojump_clock: MockClock) -> None:
    world = World()
    tree = Tree(SupervisorSpec("root", (world.actor("a"), world.actor("b", stop=fail(ValueError("cleanup"))))))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.stop()
    assert world.journal == ["0 +a", "0 +b", "0 -a"]


FATAL = [MemoryError("m"), trio.TrioInternalError("t"), KeyboardInterrupt(), SystemExit(3)]


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("moment", ["start", "message", "cleanup", "group stop", "shutdown", "same moment"])
async def test_fatal_error_ends_the_tree_and_is_raised_bare(
    moment: str, error: BaseException, autojump_clock: MockClock
) -> None:
    """This holds wherever the error is raised, also where an ordinary exit would have no effect."""
    world = World()
    hooks: dict[str, Any] = {"work": fail(error)}
    if moment == "start":
        hooks = {"start": fail(error)}
    elif moment in {"cleanup", "group stop", "shutdown"}:
        hooks = {"stop": fail(error), "work": fail(ValueError("first"))}
    victim = world.actor("b", **hooks)
    inner = SupervisorSpec("inner", (world.actor("a"), victim, world.actor("c")), Strategy.ONE_FOR_ALL)
    tree = Tree(SupervisorSpec("root", (world.actor("z"), inner)))

    async def act() -> None:
        await wait_all_tasks_blocked()
        match moment:
            case "message" | "cleanup":
                await victim.ref.tell("work")
            case "group stop":
                tree.actor("root/inner/c").crash(ValueError("x"))
            case "shutdown":
                tree.stop()
            case "same moment":
                tree.actor("root/inner/a").crash(ValueError("x"))
                await victim.ref.tell("work")
            case _:
                pass

    caught: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        try:
            await tree.run()
        except BaseException as raised:  # noqa: BLE001 - the test raises KeyboardInterrupt too
            caught = raised
    assert caught is error
    assert world.journal[-1] == "0 -z"
    assert world.journal.count("0 +a") == 1
    assert {node.statistics().state for node in tree.actors()} == {"stopped"}
    assert "crashed" in tree.statistics().last_exit
    if moment != "same moment":
        assert "crashed" in str(victim.ref.status.last_exit)


async def test_tree_runs_only_once(autojump_clock: MockClock) -> None:
    tree = Tree(SupervisorSpec("root", World().actors("a")))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        with pytest.raises(MisuseError):
            await tree.run()
        tree.stop()
    with pytest.raises(MisuseError):
        await tree.run()


async def test_tree_stopped_during_its_start_ends_without_an_error(
    autojump_clock: MockClock,
) -> None:
    world = World()
    tree = Tree(SupervisorSpec("root", world.actors("ab")))
    tree.stop()
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
    assert world.journal == []
    assert tree.statistics().state == "stopped"


async def test_background_task_ends_with_its_incarnation(autojump_clock: MockClock) -> None:
    journal: list[str] = []

    class Clock(Actor):
        async def on_start(self, context: Context) -> None:
            context.spawn(self.tick, context)
            assert await context.start(self.serve) == "port"

        async def tick(self, context: Context) -> None:
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep(5)
                raise ValueError(f"tick of {context.incarnation}")

        async def serve(self, *, task_status: trio.TaskStatus[str]) -> None:
            task_status.started("port")
            try:
                await trio.sleep_forever()
            finally:
                journal.append(f"{trio.current_time():g} served")

        async def on_stop(self) -> None:
            journal.append(f"{trio.current_time():g} stopped")

    spec = ActorSpec("clock", Clock)
    tree = Tree(SupervisorSpec("root", (spec,), backoff=Backoff(first_s=1, jitter=0)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await trio.sleep(8)
        tree.stop()
    assert journal == ["5 served", "5 stopped", "8 served", "8 stopped"]


async def test_context_refuses_calls_outside_its_incarnation(autojump_clock: MockClock) -> None:
    contexts: list[Context] = []

    class Leaks(Actor):
        async def on_start(self, context: Context) -> None:
            contexts.append(context)

    spec = ActorSpec("leaks", Leaks)
    early = Context(spec.ref, 1, Registry())
    with pytest.raises(MisuseError):
        early.spawn(trio.sleep_forever)
    with pytest.raises(MisuseError):
        await early.start(trio.sleep_forever)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.stop()
    with pytest.raises(MisuseError):
        contexts[0].watch(spec.ref)
    with pytest.raises(RuntimeError):
        contexts[0].spawn(trio.sleep_forever)
    with pytest.raises(MisuseError, match="not running"):
        tree.actor("root/leaks").crash(ValueError("x"))
    assert "leaks#1" in repr(contexts[0])


async def test_ending_incarnation_cannot_be_crashed(autojump_clock: MockClock) -> None:
    """During the whole end, `crash` raises `MisuseError`."""
    world = World()
    spec = world.actor("a", stop=sleep(1))
    tree = Tree(SupervisorSpec("root", (spec,)))
    refused = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.stop()
        while tree.statistics().state != "stopped":
            try:
                tree.actor("root/a").crash(ValueError("x"))
            except MisuseError:
                refused += 1
            await trio.lowlevel.checkpoint()
            if refused > 5:
                await trio.sleep(0.1)
    assert refused > 5
    assert world.journal == ["0 +a", "1 -a"]
