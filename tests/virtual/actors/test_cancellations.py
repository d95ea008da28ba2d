"""A busy scenario is stopped or cancelled at each scheduler step in turn, and always ends in order and completely."""

import math
from collections.abc import Callable

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import (
    Actor,
    ActorSpec,
    Backoff,
    Context,
    Exit,
    ExitKind,
    Observer,
    Strategy,
    SupervisorSpec,
    Tree,
)
from llmactors.actors.errors import ActorDied, MailboxFull
from llmactors.actors.supervisor import SupervisorNode


@attrs.define
class Record(Observer):
    """The events and results of one run."""

    up: set[tuple[str, int]] = attrs.field(factory=set)
    exits: list[tuple[str, int, ExitKind]] = attrs.field(factory=list)
    asked: int = 0
    answered: int = 0
    made: int = 0
    cleaned_up: int = 0
    hung: bool = False

    def actor_started(self, actor: str, incarnation: int) -> None:
        assert (actor, incarnation) not in self.up
        self.up.add((actor, incarnation))

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        self.exits.append((actor, incarnation, exit_.kind))


@attrs.frozen
class Do:
    """Sleeps, and then crashes if `crashes` is set."""

    lasts_s: float
    crashes: bool = False


class Part(Actor):
    def __init__(self, record: Record, start_s: float = 0.0, fails_at: int = 0) -> None:
        self.record = record
        self.start_s = start_s
        self.fails_at = fails_at
        record.made += 1

    async def on_start(self, context: Context) -> None:
        self.context = context
        context.spawn(trio.sleep_forever)
        await trio.sleep(self.start_s)
        if context.incarnation == self.fails_at:
            raise OSError("no start")

    async def on_message(self, message: Do) -> float:
        await trio.sleep(message.lasts_s)
        if message.crashes:
            raise ValueError("crash")
        return message.lasts_s

    async def on_stop(self) -> None:
        await trio.sleep(0.01)
        self.record.cleaned_up += 1


class World:
    """root one_for_one [a, inner one_for_all [b, c, d], e]."""

    def __init__(self) -> None:
        self.record = record = Record()
        self.a = ActorSpec("a", lambda: Part(record))
        self.b = ActorSpec("b", lambda: Part(record, start_s=0.1, fails_at=2))
        self.c = ActorSpec("c", lambda: Part(record), grace_s=1, capacity=1)
        self.d = ActorSpec("d", lambda: Part(record), redeliver=True)
        self.e = ActorSpec("e", lambda: Part(record), budget_s=3, redeliver=True)
        backoff = Backoff(first_s=0.5, jitter=0)
        inner = SupervisorSpec("inner", (self.b, self.c, self.d), Strategy.ONE_FOR_ALL, intensity=2, backoff=backoff)
        root = SupervisorSpec("root", (self.a, inner, self.e), intensity=9, backoff=backoff)
        self.tree = Tree(root, observer=record)

    async def ask(self, spec: ActorSpec, do: Do) -> None:
        self.record.asked += 1
        try:
            with trio.move_on_after(20):
                await spec.ref.ask(do)
        except (ActorDied, MailboxFull):
            pass
        self.record.answered += 1

    async def play(self, nursery: trio.Nursery) -> None:
        """Plays about fifteen virtual seconds of faults."""
        nursery.start_soon(self.ask, self.a, Do(2))
        nursery.start_soon(self.ask, self.c, Do(math.inf))
        await trio.sleep(0.5)
        for _ in range(3):
            nursery.start_soon(self.ask, self.c, Do(0.1))
            nursery.start_soon(self.ask, self.d, Do(0.1))
        await trio.sleep(0.5)
        nursery.start_soon(self.ask, self.b, Do(0, crashes=True))  # a group restart, c hangs on its stop, b fails
        nursery.start_soon(self.ask, self.e, Do(0, crashes=True))  # a message that crashes the actor twice
        await trio.sleep(5)
        nursery.start_soon(self.ask, self.e, Do(math.inf))  # hangs until its budget, twice
        nursery.start_soon(self.ask, self.d, Do(0, crashes=True))  # inner gives up
        await trio.sleep(13)
        self.tree.stop()


class AtStep(trio.abc.Instrument):
    """Calls back once, before scheduler step number `step`."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.left = step
        self.act = act

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


def free(node: SupervisorNode) -> None:
    """Ends a hung tree, so that the test fails instead of hanging."""
    for run in node._runs.values():
        run._scope.shield = False
        run._scope.cancel()
    for child in node.children.values():
        if isinstance(child, SupervisorNode):
            free(child)


async def run(step: int, how: str) -> tuple[World, bool]:
    world = World()
    record = world.record
    acted = False

    async def watchdog() -> None:
        await trio.sleep(1000)
        record.hung = True
        while True:
            free(world.tree.root)
            await trio.sleep(1)

    async with trio.open_nursery() as base:
        base.start_soon(watchdog)
        async with trio.open_nursery() as askers:
            scope = trio.CancelScope()

            def act() -> None:
                nonlocal acted
                acted = True
                if how == "stop":
                    world.tree.stop()
                else:
                    scope.cancel()

            trio.lowlevel.add_instrument(AtStep(step, act))
            with scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(world.tree.run)
                    await world.play(askers)
        base.cancel_scope.cancel()
        assert trio.current_time() < 999
    return world, acted


def check(world: World) -> None:
    record, tree = world.record, world.tree
    assert not record.hung
    assert record.asked == record.answered
    assert record.made == record.cleaned_up == len(record.exits)
    assert {node.statistics().state for node in tree.actors()} == {"stopped"}
    assert tree.statistics().state == "stopped"
    assert tree.root._runs == {}
    for node in tree.actors():
        mailbox = node.spec.ref.mailbox
        assert mailbox.closed
        assert (mailbox.statistics().depth, mailbox.statistics().blocked_senders) == (0, 0)
        assert node._in_hand is None
        assert not node.spec.ref.running
    # Siblings that were up and were stopped have been stopped from right to left.
    order = [node.path for node in tree.actors()]
    for family in (["root/a", "root/e"], ["root/inner/b", "root/inner/c", "root/inner/d"]):
        stopped = [
            order.index(actor)
            for actor, incarnation, kind in record.exits
            if actor in family
            and incarnation == tree.actor(actor).spec.ref.incarnation
            and (actor, incarnation) in record.up
            and kind is not ExitKind.CRASHED
        ]
        assert stopped == sorted(stopped, reverse=True)


def test_scenario_without_a_cancel_has_all_its_faults() -> None:
    world, _ = trio.run(run, 10**9, "stop", clock=MockClock(autojump_threshold=0))
    check(world)
    incarnations = {node.spec.name: node.spec.ref.incarnation for node in world.tree.actors()}
    assert incarnations == {"a": 1, "b": 5, "c": 4, "d": 4, "e": 5}
    assert world.tree.root.children["inner"].statistics().incarnation == 2


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_cancel_at_each_step_ends_the_tree_in_order(how: str) -> None:
    step = 0
    acted = True
    while acted:
        step += 1
        try:
            world, acted = trio.run(run, step, how, clock=MockClock(autojump_threshold=0))
            check(world)
        except Exception as error:
            error.add_note(f"at step {step}")
            raise
    assert step > 200
