"""What an incarnation can do: timers, deferred answers, names; and what a thread must not do."""

import gc
import weakref

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import (
    NO_BACKOFF,
    Actor,
    ActorDied,
    ActorSpec,
    Context,
    MisuseError,
    Overflow,
    Question,
    Reply,
    SupervisorSpec,
    Timer,
    Tree,
)


@attrs.frozen
class Tick:
    """From a timer."""

    name: str = ""


@attrs.frozen
class Later(Question[str]):
    """A question whose answer comes later."""

    name: str


class Clerk(Actor[Tick | Later]):
    """Defers answers, and writes its ticks to a list."""

    def __init__(self, told: list[tuple[float, str]]) -> None:
        self.told = told
        self.open: dict[str, Reply] = {}

    async def on_start(self, context: Context) -> None:
        self.context = context

    async def on_message(self, message: Tick | Later) -> object:
        if isinstance(message, Later):
            self.open[message.name] = self.context.defer()
        else:
            self.told.append((trio.current_time(), f"{message.name}{self.context.incarnation}"))
            if message.name == "crash":
                raise ValueError("crash")
        return "ignored"


class World:
    """A tree with one clerk."""

    def __init__(self, capacity: int = 64, overflow: Overflow = Overflow.BLOCK) -> None:
        self.told: list[tuple[float, str]] = []
        self.clerks: list[Clerk] = []
        self.spec = ActorSpec("clerk", self._make, capacity=capacity, overflow=overflow, registered_name="the clerk")
        self.tree = Tree(SupervisorSpec("root", (self.spec,), backoff=NO_BACKOFF))

    def _make(self) -> Clerk:
        self.clerks.append(Clerk(self.told))
        return self.clerks[-1]

    @property
    def context(self) -> Context:
        return self.clerks[-1].context


async def test_timers_fire_once_or_again_until_cancelled(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        begun = trio.current_time()
        world.context.tell_after(2.5, Tick("once"))
        again = world.context.tell_every(1.0, Tick("again"))
        never = world.context.tell_after(3.0, Tick("never"))
        never.cancel()
        await trio.sleep(3.2)
        again.cancel()
        await trio.sleep(5)
        told = [(round(at - begun, 3), name) for at, name in world.told]
    assert told == [(1.0, "again1"), (2.0, "again1"), (2.5, "once1"), (3.0, "again1")]


async def test_timers_of_a_dead_incarnation_are_silent(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        world.context.tell_every(1.0, Tick("old"))
        world.context.tell_after(1.5, Tick("crash"))
        await trio.sleep(10)
        assert [name for _, name in world.told] == ["old1", "crash1"]
        assert world.spec.ref.incarnation == 2


@pytest.mark.parametrize("overflow", Overflow)
async def test_timer_of_a_slow_actor_sends_no_burst(autojump_clock: MockClock, overflow: Overflow) -> None:
    class Slow(Actor[Tick]):
        async def on_start(self, context: Context) -> None:
            self.timer: Timer = context.tell_every(1.0, Tick())

        async def on_message(self, message: Tick) -> None:
            handled.append(trio.current_time())
            await trio.sleep(10)

    handled: list[float] = []
    async with Tree(SupervisorSpec("root", (ActorSpec("slow", Slow, capacity=1, overflow=overflow, grace_s=0),))):
        await trio.sleep(100)
    assert len(handled) == 10


async def test_deferred_answer_comes_while_others_are_handled(autojump_clock: MockClock) -> None:
    world = World()
    answers: dict[str, str] = {}

    async def ask(name: str) -> None:
        answers[name] = await world.spec.ref.ask(Later(name))

    async with world.tree, trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "b")
        await trio.sleep(1)
        assert answers == {}
        world.clerks[0].open["b"].set("B")
        await trio.sleep(1)
        assert answers == {"b": "B"}
        await world.spec.ref.tell(Tick("between"))
        world.clerks[0].open["a"].set("A")
    assert answers == {"a": "A", "b": "B"}


async def test_deferred_answer_can_be_an_error(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree, trio.open_nursery() as nursery:

        async def fail() -> None:
            await trio.sleep(1)
            world.clerks[0].open["a"].fail(LookupError("none"))

        nursery.start_soon(fail)
        with pytest.raises(LookupError, match="none"):
            await world.spec.ref.ask(Later("a"))
        assert world.spec.ref.incarnation == 1


@pytest.mark.parametrize("end", ["crash", "stop"])
async def test_deferred_answers_end_with_the_incarnation(autojump_clock: MockClock, end: str) -> None:
    world = World()

    async def end_soon() -> None:
        await trio.sleep(1)
        if end == "crash":
            await world.spec.ref.tell(Tick("crash"))
        else:
            world.tree.stop()

    async with world.tree, trio.open_nursery() as nursery:
        nursery.start_soon(end_soon)
        with pytest.raises(ActorDied, match="ended before it answered"):
            await world.spec.ref.ask(Later("a"))


async def test_answer_to_nothing_cannot_be_deferred(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        with pytest.raises(MisuseError, match="no message in hand"):
            world.context.defer()


async def test_actor_is_found_by_its_registered_name(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        assert world.context.find("the clerk") is world.spec.ref
        await world.spec.ref.tell(Tick("crash"))
        await trio.sleep(1)
        assert world.tree.find("the clerk") is world.spec.ref
        assert world.context.find("nobody") is None
    twice = [ActorSpec(name, Actor, registered_name="same") for name in "ab"]
    with pytest.raises(MisuseError, match="root/b cannot have the name same, which root/a has"):
        Tree(SupervisorSpec("root", tuple(twice)))


async def test_message_from_another_thread_is_refused(autojump_clock: MockClock) -> None:
    """The actor still gets the messages of its own thread."""
    world = World()
    async with world.tree:
        with pytest.raises(MisuseError, match=r"root/clerk was sent from another thread.*from_thread"):
            await trio.to_thread.run_sync(world.spec.ref.tell_nowait, Tick("thread"))
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(world.spec.ref.tell_nowait, Tick("own")))
        await trio.sleep(1)
    assert [name for _, name in world.told] == ["own1"]


async def test_dead_incarnation_does_not_stay_in_memory(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        dead = weakref.ref(world.clerks.pop())
        await world.spec.ref.tell(Tick("crash"))
        await trio.sleep(1)
        gc.collect()
        assert dead() is None
        assert "ValueError: crash" in world.tree.actor("root/clerk").statistics().last_exit


async def test_tree_runs_around_a_block_and_raises_its_failure(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree as tree:
        assert tree is world.tree
        assert world.spec.ref.running
    assert not world.spec.ref.running
    with pytest.raises(LookupError, match="of the block"):
        async with World().tree:
            raise LookupError("of the block")

    class Fatal(Actor):
        async def on_message(self, message: object) -> None:
            raise MemoryError("all gone")

    spec = ActorSpec("fatal", Fatal)

    async def run() -> None:
        async with Tree(SupervisorSpec("root", (spec,))):
            await spec.ref.tell(1)
            await trio.sleep_forever()

    with pytest.raises(MemoryError, match="all gone"):
        await run()
