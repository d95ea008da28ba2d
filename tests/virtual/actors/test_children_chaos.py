"""Starts, stops and kills children of a running supervisor in any order, and compares with a model of the rules.

As in `test_chaos_machine`, each command or kill of the first test has its own slot of virtual time, which is long
enough for all its effects. In the second test they overlap, and only what must always hold is checked.
"""

import contextlib
import itertools

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from llmactors.actors import ActorSpec, Restart, Strategy
from llmactors.actors.errors import ActorDied, MisuseError, StartFailed
from tests.virtual.actors.test_chaos_machine import (
    BUDGET_S,
    SLOT_S,
    Branch,
    How,
    Leaf,
    Model,
    Part,
    World,
    compare,
    live,
)

POOL = "r/0"
NAMES = ("a", "b", "c")


@attrs.frozen
class Start:
    name: str
    restart: Restart
    failures: int
    """How often the child fails to start, beginning with this start."""


@attrs.frozen
class Stop:
    name: str


@attrs.frozen
class Kill:
    victim: int
    """The place among all actors that there are then."""
    how: How
    failures: int
    """How often the victim fails to start after that."""


restarts = st.sampled_from([Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY, Restart.TEMPORARY])
failures = st.sampled_from([0, 0, 0, 1, 2])
names = st.sampled_from(NAMES)
acts = st.lists(
    st.one_of(
        st.builds(Start, names, restarts, failures),
        st.builds(Stop, names),
        st.builds(Kill, st.integers(0, 9), st.sampled_from(How), failures),
    ),
    max_size=7,
)
pools = st.builds(
    lambda strategy, intensity, own: Branch(
        Restart.PERMANENT,
        Strategy.ONE_FOR_ONE,
        3,
        (Branch(Restart.PERMANENT, strategy, intensity, tuple(map(Leaf, own))),),
    ),
    st.sampled_from(Strategy),
    st.integers(0, 4),
    st.lists(restarts, min_size=1, max_size=2),
)


class PoolModel(Model):
    """A supervisor that may have children beside those of its spec, until they or the supervisor end."""

    def __init__(self, drawn: Leaf | Branch, path: str, parent: Model | None, failing: dict[str, int]) -> None:
        super().__init__(drawn, path, parent, failing)
        below = drawn.children if isinstance(drawn, Branch) else ()
        self.children = [PoolModel(child, f"{path}/{number}", self, failing) for number, child in enumerate(below)]
        self.added: list[Model] = []

    def stop(self) -> None:
        super().stop()
        self.children = [child for child in self.children if child not in self.added]
        self.added.clear()

    def start_child(self, act: Start) -> str:
        if not self.up:
            return "died"
        path = f"{self.path}/{act.name}"
        if any(child.path == path for child in self.children):
            return "misuse"
        self.failing[path] = act.failures
        child = PoolModel(Leaf(act.restart), path, self, self.failing)
        if not child.start():
            return "failed"
        self.children.append(child)
        self.added.append(child)
        return "done"

    def stop_child(self, name: str) -> str:
        if not self.up:
            return "died"
        found = [child for child in self.added if child.path == f"{self.path}/{name}"]
        for child in found:
            self.forget(child)
        return "done" if found else "misuse"

    def forget(self, child: Model) -> None:
        self.children.remove(child)
        self.added.remove(child)

    def forget_ended(self) -> None:
        """Once all restarts are over, a child that is down has ended for good."""
        for child in list(self.added):
            if not child.up:
                self.forget(child)


class PoolWorld(World):
    """The real tree, and the commands to its pool."""

    async def do(self, act: Start | Stop) -> str:
        """Carries out a command, and says how it ended."""
        pool = self.tree.root.spec.children[0].ref
        try:
            if isinstance(act, Stop):
                await pool.stop_child(act.name)  # type: ignore[union-attr]
            else:
                await pool.start_child(self.member(act))  # type: ignore[union-attr]
        except MisuseError:
            return "misuse"
        except StartFailed:
            return "failed"
        except ActorDied:
            return "died"
        return "done"

    def member(self, act: Start) -> ActorSpec:
        path = f"{POOL}/{act.name}"
        return ActorSpec(
            act.name, lambda: Part(path, self), act.restart, budget_s=BUDGET_S, capacity=4, registered_name=act.name
        )

    async def client(self, client: int) -> None:
        while True:
            await trio.sleep(self.rng.uniform(0.5, 12))
            if actors := self.tree.actors():
                await self.rng.choice([self.tell, self.ask])(client, self.rng.choice(actors).path)

    def check_places(self) -> None:
        """Only actors that have a place have a name."""
        paths = {node.path for node in self.tree.actors()}
        for name in NAMES:
            assert (self.tree.find(name) is not None) == (f"{POOL}/{name}" in paths)

    async def strike(self, kill: Kill) -> str:
        """Kills one of the actors that there are now; returns the path of the victim."""
        actors = self.tree.actors()
        if not actors:
            return ""
        path = actors[kill.victim % len(actors)].path
        self.failing[path] = kill.failures
        with contextlib.suppress(MisuseError):  # the actor has ended for good, and has no place any more
            await self.kill(path, kill.how)
        return path


@settings(max_examples=25, deadline=None)
@given(pools, acts, st.integers(0, 2**16), st.random_module())
def test_children_come_and_go_by_the_rules(
    drawn: Branch, plan: list[Start | Stop | Kill], seed: int, scheduler: object
) -> None:
    world = PoolWorld(drawn, seed)
    model = PoolModel(drawn, "r", None, {})

    async def scenario() -> None:
        assert model.start()
        [pool] = model.children
        assert isinstance(pool, PoolModel)
        for slot, act in enumerate(plan, 1):
            await trio.sleep(slot * SLOT_S - trio.current_time())
            if isinstance(act, Kill):
                leaves = {node.path: node for node in model.all() if isinstance(node.drawn, Leaf)}
                assert sorted(node.path for node in world.tree.actors()) == sorted(leaves)
                path = await world.strike(act)
                if path:
                    model.failing[path] = act.failures
                    if leaves[path].up:
                        leaves[path].dies(slot, crashed=act.how is not How.LEAVE)
            elif isinstance(act, Start):
                if pool.up and not any(child.path == f"{POOL}/{act.name}" for child in pool.children):
                    world.failing[f"{POOL}/{act.name}"] = act.failures
                assert await world.do(act) == pool.start_child(act)
            else:
                assert await world.do(act) == pool.stop_child(act.name)
            await trio.sleep(SLOT_S * 0.8)
            pool.forget_ended()
            compare(world, model)
            world.check_places()
            if not model.up:
                break

    trio.run(live, world, scenario, clock=MockClock(autojump_threshold=0))


@settings(max_examples=25, deadline=None)
@given(pools, acts, st.integers(0, 2**16), st.random_module())
def test_overlapping_commands_and_kills_leave_nothing(
    drawn: Branch, plan: list[Start | Stop | Kill], seed: int, scheduler: object
) -> None:
    """Each command has an answer, and each message an end, whatever else happens at the same time."""
    world = PoolWorld(drawn, seed)
    answers: list[str] = []

    async def act_now(act: Start | Stop | Kill) -> None:
        if isinstance(act, Kill):
            await world.strike(act)
        else:
            if isinstance(act, Start):
                world.failing[f"{POOL}/{act.name}"] = act.failures
            answers.append(await world.do(act))

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for act in itertools.chain(plan, plan):
                await trio.sleep(world.rng.choice([0, 0, 0.1, 0.5, 2]))
                nursery.start_soon(act_now, act)
        world.check_places()

    trio.run(live, world, scenario, clock=MockClock(autojump_threshold=0))
    assert len(answers) == 2 * sum(not isinstance(act, Kill) for act in plan)
    world.check_places()
