"""Restarts in a running tree: their order, waits, groups and failed starts, and giving up."""

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import (
    NO_BACKOFF,
    Actor,
    ActorSpec,
    Backoff,
    Context,
    Exit,
    Observer,
    Restart,
    Strategy,
    SupervisorSpec,
    SupervisorStatistics,
    Tree,
)
from llmactors.actors.errors import ActorDied, RestartIntensityExceeded, StartFailed

ONE_SECOND = Backoff(first_s=1.0, factor=1.0, jitter=0.0)


@attrs.define
class Journal(Observer):
    """The events in order, with their times."""

    lines: list[str] = attrs.field(factory=list)

    def note(self, line: str) -> None:
        self.lines.append(f"{trio.current_time():g} {line}")

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        self.note(f"{supervisor} restarts {','.join(children)} in {delay_s:g}, {count}/{intensity}: {exit_}")

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        self.note(f"{supervisor} gave up on {child}: {exit_}")


class Part(Actor):
    """Records its start and end, and plays the faults of its fields."""

    def __init__(self, name: str, journal: Journal, faults: "Faults") -> None:
        self.name = name
        self.journal = journal
        self.faults = faults

    async def on_start(self, context: Context) -> None:
        self.context = context
        self.journal.note(f"+{self.name}{context.incarnation}")
        await trio.sleep(self.faults.start_s)
        if context.incarnation in self.faults.starts:
            raise OSError("no start")

    async def on_message(self, message: object) -> object:
        if message == "leave":
            self.context.exit()
        if isinstance(message, BaseException):
            raise message
        return self.context.incarnation

    async def on_stop(self) -> None:
        await trio.sleep(self.faults.cleanup_s)
        self.journal.note(f"-{self.name}{self.context.incarnation}")
        if self.faults.cleanup is not None:
            raise self.faults.cleanup


@attrs.define
class Faults:
    """The faults of one actor."""

    starts: tuple[int, ...] = ()
    start_s: float = 0.0
    cleanup_s: float = 0.0
    cleanup: BaseException | None = None


class World:
    """Actors by name, and the journal of all of them."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.faults: dict[str, Faults] = {}
        self.specs: dict[str, ActorSpec] = {}

    def actor(self, name: str, faults: Faults | None = None, **settings: Any) -> ActorSpec:
        self.faults[name] = faults or Faults()
        spec = ActorSpec(name, lambda: Part(name, self.journal, self.faults[name]), **settings)
        self.specs[name] = spec
        return spec

    def actors(self, names: str) -> tuple[ActorSpec, ...]:
        return tuple(self.actor(name) for name in names)

    @contextlib.asynccontextmanager
    async def running(self, root: SupervisorSpec) -> AsyncIterator[Tree]:
        tree = Tree(root, observer=self.journal, rng=random.Random(0))
        async with trio.open_nursery() as nursery:
            await nursery.start(tree.run)
            self.journal.take()
            yield tree
            tree.stop()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_children_start_in_order_and_stop_in_reverse(autojump_clock: MockClock) -> None:
    """A child starts only when the child before it is up, and stops only when the child after it has ended."""
    world = World()
    inner = SupervisorSpec("inner", (world.actor("b", Faults(start_s=2)), world.actor("c", Faults(cleanup_s=3))))
    tree = Tree(SupervisorSpec("root", (world.actor("a", Faults(start_s=1)), inner, world.actor("d"))))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        assert world.journal.take() == ["0 +a1", "1 +b1", "3 +c1", "3 +d1"]
        tree.stop()
    assert world.journal.take() == ["3 -d1", "6 -c1", "6 -b1", "6 -a1"]


async def test_one_for_one_restarts_only_the_child(autojump_clock: MockClock) -> None:
    world = World()
    async with world.running(SupervisorSpec("root", world.actors("abc"), backoff=ONE_SECOND)) as tree:
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(2)
        assert world.journal.take() == ["0 -b1", "0 root restarts b in 1, 1/5: crashed: ValueError: x", "1 +b2"]


async def test_one_for_all_restarts_all_in_order(autojump_clock: MockClock) -> None:
    world = World()
    root = SupervisorSpec("root", world.actors("abc"), Strategy.ONE_FOR_ALL, backoff=ONE_SECOND)
    async with world.running(root) as tree:
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(2)
        log = "0 root restarts a,b,c in 1, 1/5: crashed: ValueError: x"
        assert world.journal.take() == ["0 -b1", "0 -c1", "0 -a1", log, "1 +a2", "1 +b2", "1 +c2"]


async def test_rest_for_one_restarts_the_later_children(autojump_clock: MockClock) -> None:
    world = World()
    root = SupervisorSpec("root", world.actors("abcd"), Strategy.REST_FOR_ONE, backoff=ONE_SECOND)
    async with world.running(root) as tree:
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(2)
        log = "0 root restarts b,c,d in 1, 1/5: crashed: ValueError: x"
        assert world.journal.take() == ["0 -b1", "0 -d1", "0 -c1", log, "1 +b2", "1 +c2", "1 +d2"]


async def test_supervisor_is_restarted_with_all_its_children(autojump_clock: MockClock) -> None:
    world = World()
    inner = SupervisorSpec("inner", world.actors("bc"), intensity=0)
    async with world.running(SupervisorSpec("root", (world.actor("a"), inner), backoff=ONE_SECOND)) as tree:
        tree.actor("root/inner/b").crash(ValueError("x"))
        why = "root/inner gave up: more than 0 restarts in 30 s, the last of b <- ValueError: x"
        await trio.sleep(2)
        assert world.journal.take() == [
            "0 -b1",
            "0 root/inner gave up on b: crashed: ValueError: x",
            "0 -c1",
            f"0 root restarts inner in 1, 1/5: crashed: RestartIntensityExceeded: {why}",
            "1 +b2",
            "1 +c2",
        ]
        assert tree.statistics().children[1].restarts == 1


async def test_queue_survives_the_restart_of_a_supervisor(autojump_clock: MockClock) -> None:
    world = World()
    inner = SupervisorSpec("inner", world.actors("bc"), intensity=0)
    async with world.running(SupervisorSpec("root", (inner,), backoff=ONE_SECOND)) as tree:
        tree.actor("root/inner/b").crash(ValueError("x"))
        await settle()
        answers = [await world.specs[name].ref.ask("who") for name in "bc"]
        assert answers == [2, 2]
        assert trio.current_time() == 1
        assert not tree.dead_letters.counts


async def test_root_that_gives_up_stops_all_and_raises_bare(autojump_clock: MockClock) -> None:
    world = World()
    tree = Tree(SupervisorSpec("root", world.actors("abc"), intensity=0), observer=world.journal)

    async def crash() -> None:
        tree.actor("root/b").crash(ValueError("x"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_expecting, tree, RestartIntensityExceeded)
        await settle()
        world.journal.take()
        await crash()
    assert world.journal.take() == ["0 -b1", "0 root gave up on b: crashed: ValueError: x", "0 -c1", "0 -a1"]
    assert tree.statistics().state == "stopped"
    assert tree.statistics().last_exit.startswith("crashed: RestartIntensityExceeded")
    with pytest.raises(ActorDied):
        await world.specs["a"].ref.ask("who")


async def run_expecting(tree: Tree, error: type[BaseException]) -> None:
    with pytest.raises(error):
        await tree.run()


async def test_failed_first_start_stops_the_children_in_reverse(
    autojump_clock: MockClock,
) -> None:
    world = World()
    inner = SupervisorSpec("inner", (world.actor("b"), world.actor("c", Faults(starts=(1,)))))
    tree = Tree(SupervisorSpec("root", (world.actor("a"), inner, world.actor("d"))))
    with pytest.raises(StartFailed, match="root/inner could not start") as caught:
        await tree.run()
    assert "OSError: no start" in tree.statistics().last_exit
    assert caught.value.__cause__ is not None
    assert world.journal.take() == ["0 +a1", "0 +b1", "0 +c1", "0 -c1", "0 -b1", "0 -a1"]


async def test_failed_factory_is_a_failed_start(autojump_clock: MockClock) -> None:
    def make() -> Actor:
        raise KeyError("setting")

    with pytest.raises(StartFailed):
        await Tree(SupervisorSpec("root", (ActorSpec("a", make),))).run()


async def test_failed_restart_counts_and_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    world = World()
    backoff = Backoff(first_s=1.0, factor=2.0, jitter=0.0)
    actors = (world.actor("a"), world.actor("b", Faults(starts=(2, 3))))
    async with world.running(SupervisorSpec("root", actors, backoff=backoff)) as tree:
        tree.actor("root/b").crash(ValueError("x"))
        await settle()
        assert await world.specs["b"].ref.ask("who") == 4
        failed = "crashed: StartFailed: root/b could not start <- OSError: no start"
        assert world.journal.take() == [
            "0 -b1",
            "0 root restarts b in 1, 1/5: crashed: ValueError: x",
            "1 +b2",
            "1 -b2",
            f"1 root restarts b in 2, 2/5: {failed}",
            "3 +b3",
            "3 -b3",
            f"3 root restarts b in 4, 3/5: {failed}",
            "7 +b4",
        ]
        assert tree.actor("root/a").statistics().incarnation == 1


async def test_failed_start_in_a_group_delays_the_group(autojump_clock: MockClock) -> None:
    """No child of the group starts before the new due time, and then all start in order."""
    world = World()
    actors = (world.actor("a"), world.actor("b", Faults(starts=(2,))), world.actor("c"))
    async with world.running(SupervisorSpec("root", actors, Strategy.ONE_FOR_ALL, backoff=ONE_SECOND)) as tree:
        tree.actor("root/a").crash(ValueError("x"))
        await trio.sleep(5)
        lines = [line for line in world.journal.take() if "restarts" not in line]
        assert lines == ["0 -a1", "0 -c1", "0 -b1", "1 +a2", "1 +b2", "1 -b2", "1 -a2", "2 +a3", "2 +b3", "2 +c2"]


async def test_failed_start_keeps_the_order_without_backoff(autojump_clock: MockClock) -> None:
    world = World()
    actors = (world.actor("a"), world.actor("b", Faults(starts=(2,))), world.actor("c"))
    async with world.running(SupervisorSpec("root", actors, Strategy.ONE_FOR_ALL, backoff=NO_BACKOFF)) as tree:
        tree.actor("root/a").crash(ValueError("x"))
        await settle()
        starts = [line for line in world.journal.take() if line.startswith("0 +")]
        assert starts == ["0 +a2", "0 +b2", "0 +a3", "0 +b3", "0 +c2"]


async def test_group_restart_counts_once(autojump_clock: MockClock) -> None:
    world = World()
    root = SupervisorSpec("root", world.actors("abcde"), Strategy.ONE_FOR_ALL, intensity=1, backoff=NO_BACKOFF)
    async with world.running(root) as tree:
        tree.actor("root/a").crash(ValueError("x"))
        await settle()
        assert tree.statistics().recent_restarts == 1
        assert {node.statistics().incarnation for node in tree.actors()} == {2}


async def test_exits_at_the_same_moment_are_one_group_restart(autojump_clock: MockClock) -> None:
    """An exit of a child that the first exit has stopped already is ignored."""
    world = World()
    root = SupervisorSpec("root", world.actors("abc"), Strategy.ONE_FOR_ALL, intensity=1, backoff=NO_BACKOFF)
    async with world.running(root) as tree:
        for name in "abc":
            tree.actor(f"root/{name}").crash(ValueError("x"))
        await settle()
        assert {node.statistics().incarnation for node in tree.actors()} == {2}
        assert {node.statistics().state for node in tree.actors()} == {"running"}


async def test_one_for_one_counts_each_exit_at_the_same_moment(autojump_clock: MockClock) -> None:
    world = World()
    async with world.running(SupervisorSpec("root", world.actors("abc"), backoff=NO_BACKOFF)) as tree:
        for name in "abc":
            tree.actor(f"root/{name}").crash(ValueError("x"))
        await settle()
        assert {node.statistics().incarnation for node in tree.actors()} == {2}
        assert tree.statistics().recent_restarts == 3


async def test_crash_during_a_group_restart_joins_it(autojump_clock: MockClock) -> None:
    """The crashed child counts as stopped with the group, so the group restarts once and counts once."""
    world = World()
    actors = (world.actor("a"), world.actor("b"), world.actor("c", Faults(cleanup_s=3)))
    async with world.running(SupervisorSpec("root", actors, Strategy.ONE_FOR_ALL, backoff=ONE_SECOND)) as tree:
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(1)
        tree.actor("root/a").crash(ValueError("y"))
        await trio.sleep(9)
        assert tree.statistics().recent_restarts == 1
        assert [node.statistics().incarnation for node in tree.actors()] == [2, 2, 2]
        assert world.journal.take()[-3:] == ["3 +a2", "3 +b2", "3 +c2"]


async def test_time_to_stop_a_group_is_part_of_the_delay(autojump_clock: MockClock) -> None:
    world = World()
    actors = (world.actor("a"), world.actor("b", Faults(cleanup_s=0.75)))
    async with world.running(SupervisorSpec("root", actors, Strategy.ONE_FOR_ALL, backoff=ONE_SECOND)) as tree:
        tree.actor("root/a").crash(ValueError("x"))
        await trio.sleep(5)
        assert world.journal.take()[-2:] == ["1 +a2", "1 +b2"]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_temporary_child_is_stopped_with_its_group(strategy: Strategy, autojump_clock: MockClock) -> None:
    world = World()
    actors = (world.actor("a"), world.actor("b", restart=Restart.TEMPORARY), world.actor("c"))
    async with world.running(SupervisorSpec("root", actors, strategy, backoff=ONE_SECOND)) as tree:
        tree.actor("root/a").crash(ValueError("x"))
        await settle()
        with pytest.raises(ActorDied):
            await world.specs["b"].ref.ask("who")
        await trio.sleep(5)
        assert [node.statistics().incarnation for node in tree.actors()] == [2, 1, 2]
        assert tree.actor("root/b").statistics().state == "stopped"


@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("message", ["leave", ValueError("x")], ids=["normal", "crashed"])
async def test_each_restart_type_at_each_exit(restart: Restart, message: object, autojump_clock: MockClock) -> None:
    world = World()
    root = SupervisorSpec("root", (world.actor("a", restart=restart), world.actor("b")), backoff=NO_BACKOFF)
    async with world.running(root) as tree:
        await world.specs["a"].ref.tell(message)
        await settle()
        again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and message != "leave")
        first, second = tree.statistics().children
        assert (first.incarnation, first.state) == ((2, "running") if again else (1, "stopped"))
        assert second.incarnation == 1


async def test_ended_transient_child_returns_with_its_group(
    autojump_clock: MockClock,
) -> None:
    world = World()
    actors = (world.actor("a"), world.actor("b", restart=Restart.TRANSIENT))
    async with world.running(SupervisorSpec("root", actors, Strategy.ONE_FOR_ALL, backoff=NO_BACKOFF)) as tree:
        await world.specs["b"].ref.tell("leave")
        await settle()
        with pytest.raises(ActorDied):
            world.specs["b"].ref.tell_nowait("who")
        tree.actor("root/a").crash(ValueError("x"))
        await settle()
        assert await world.specs["b"].ref.ask("who") == 2


async def test_temporary_child_returns_only_with_its_supervisor(autojump_clock: MockClock) -> None:
    world = World()
    inner = SupervisorSpec("inner", (world.actor("b"), world.actor("t", restart=Restart.TEMPORARY)), intensity=0)
    async with world.running(SupervisorSpec("root", (inner,), backoff=NO_BACKOFF)) as tree:
        await world.specs["t"].ref.tell(ValueError("x"))
        await settle()
        assert tree.actor("root/inner/t").statistics().state == "stopped"
        tree.actor("root/inner/b").crash(ValueError("x"))
        await settle()
        assert await world.specs["t"].ref.ask("who") == 2


async def test_ended_supervisor_closes_all_mailboxes_below(autojump_clock: MockClock) -> None:
    world = World()
    inner = SupervisorSpec("inner", world.actors("bc"), intensity=0, restart=Restart.TEMPORARY)
    async with world.running(SupervisorSpec("root", (inner, world.actor("d")))) as tree:
        world.specs["c"].ref.tell_nowait("leave")
        await settle()
        with pytest.raises(ActorDied):
            await world.specs["b"].ref.ask("who")
        assert await world.specs["d"].ref.ask("who") == 1
        assert tree.statistics().children[0].state == "stopped"


async def test_restarted_supervisor_forgets_old_restarts(autojump_clock: MockClock) -> None:
    world = World()
    inner = SupervisorSpec("inner", world.actors("b"), intensity=1, backoff=NO_BACKOFF)
    async with world.running(SupervisorSpec("root", (inner,), backoff=NO_BACKOFF)) as tree:
        for _ in range(5):
            tree.actor("root/inner/b").crash(ValueError("x"))
            await settle()
        assert tree.statistics().recent_restarts == 2
        assert await world.specs["b"].ref.ask("who") == 6


async def test_slow_start_delays_restarts_but_not_work(autojump_clock: MockClock) -> None:
    """A supervisor does one thing at a time."""
    world = World()
    root = SupervisorSpec("root", world.actors("abc"), backoff=ONE_SECOND)
    async with world.running(root) as tree:
        world.faults["a"].start_s = 10
        tree.actor("root/a").crash(ValueError("x"))
        await trio.sleep(2)
        tree.actor("root/b").crash(ValueError("y"))
        assert await world.specs["c"].ref.ask("who") == 1
        assert trio.current_time() == 2
        assert await world.specs["b"].ref.ask("who") == 2
        assert trio.current_time() == 12


async def test_each_restart_is_observed_once_with_a_growing_delay(autojump_clock: MockClock) -> None:
    world = World()
    backoff = Backoff(first_s=1.0, factor=2.0, cap_s=4.0, jitter=0.0, stable_s=10.0)
    async with world.running(SupervisorSpec("root", world.actors("a"), intensity=99, backoff=backoff)) as tree:
        for pause in (0, 0, 0, 0, 11, 0):
            await trio.sleep(pause)
            tree.actor("root/a").crash(ValueError("x"))
            await settle()
            await world.specs["a"].ref.ask("who")
        waits = [line.partition(" in ")[2].partition(",")[0] for line in world.journal.take() if "restarts" in line]
        assert waits == ["1", "2", "4", "4", "1", "2"]


def states(statistics: SupervisorStatistics) -> dict[str, str]:
    return {child.name: child.state for child in statistics.children}


async def test_statistics_show_each_state(autojump_clock: MockClock) -> None:
    world = World()
    actors = (world.actor("a"), world.actor("b"), world.actor("c", Faults(cleanup_s=3)))
    tree = Tree(SupervisorSpec("root", actors, Strategy.REST_FOR_ONE, backoff=Backoff(first_s=5, jitter=0)))
    assert states(tree.statistics()) == {"a": "stopped", "b": "stopped", "c": "stopped"}
    assert tree.statistics().state == "stopped"
    world.faults["b"].start_s = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tree.run)
        await trio.sleep(1)
        assert tree.statistics().state == "starting"
        assert states(tree.statistics()) == {"a": "running", "b": "starting", "c": "stopped"}
        await trio.sleep(2)
        assert tree.statistics().state == "running"
        tree.actor("root/b").crash(ValueError("x"))
        await trio.sleep(1)
        assert states(tree.statistics()) == {"a": "running", "b": "stopped", "c": "stopping"}
        await trio.sleep(3)
        assert states(tree.statistics()) == {"a": "running", "b": "restarting", "c": "restarting"}
        b = tree.actor("root/b").statistics()
        assert (b.incarnation, b.restarts, b.last_exit) == (1, 0, "crashed: ValueError: x")
        await trio.sleep(6)
        assert states(tree.statistics()) == {"a": "running", "b": "running", "c": "running"}
        assert tree.statistics().recent_restarts == 1
        tree.stop()
        await trio.sleep(1)
        assert tree.statistics().state == "stopping"
    assert states(tree.statistics()) == {"a": "stopped", "b": "stopped", "c": "stopped"}
    assert tree.statistics().last_exit == "shutdown"
    assert "stopped" in repr(tree)
    assert "root/a" in repr(tree.actor("root/a"))


async def test_hung_actor_has_statistics(autojump_clock: MockClock) -> None:
    class Hangs(Actor):
        async def on_message(self, message: object) -> None:
            await trio.sleep_forever()

    spec = ActorSpec("hung", Hangs, grace_s=0)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for _ in range(3):
            await spec.ref.tell("message")
        await trio.sleep(7)
        statistics = tree.actor("root/hung").statistics()
        assert (statistics.in_hand_s, statistics.handled, statistics.mailbox.depth) == (7, 0, 2)
        assert "running" in repr(spec.ref)
        tree.stop()
    assert trio.current_time() == 7
