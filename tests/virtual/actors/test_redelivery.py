"""What a crash does to the message in hand, and to the messages in the mailbox."""

import random

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, Context, DeadLetter, Restart, SupervisorSpec, Tree
from llmactors.actors.errors import ActorDied


@attrs.frozen
class Work:
    """Crashes the actor the given number of times, or hangs."""

    name: str
    crashes: int = 0
    lasts_s: float = 0.0


class Worker(Actor):
    def __init__(self, seen: list[tuple[int, str]], crashes: dict[str, int]) -> None:
        self.seen = seen
        self.crashes = crashes

    async def on_start(self, context: Context) -> None:
        self.context = context

    async def on_message(self, message: Work) -> int:
        self.seen.append((self.context.incarnation, message.name))
        await trio.sleep(message.lasts_s)
        self.crashes[message.name] = self.crashes.get(message.name, 0) + 1
        if self.crashes[message.name] <= message.crashes:
            raise ValueError(message.name)
        return self.context.incarnation


class World:
    """A tree with one worker."""

    def __init__(self, *, redeliver: bool, restart: Restart = Restart.PERMANENT, grace_s: float = 5.0) -> None:
        self.seen: list[tuple[int, str]] = []
        crashes: dict[str, int] = {}
        self.spec = ActorSpec(
            "worker", lambda: Worker(self.seen, crashes), redeliver=redeliver, restart=restart, grace_s=grace_s
        )
        root = SupervisorSpec("root", (self.spec,), backoff=NO_BACKOFF)
        self.tree = Tree(root, rng=random.Random(0))
        self.ref = self.spec.ref

    @property
    def letters(self) -> list[tuple[str, str]]:
        def one(letter: DeadLetter) -> tuple[str, str]:
            assert isinstance(letter.message, Work)
            return letter.message.name, letter.reason.value

        return [one(letter) for letter in self.tree.dead_letters.newest]


async def test_message_is_handled_once_without_redelivery(autojump_clock: MockClock) -> None:
    """The queue survives a crash in order; the message in hand is lost."""
    world = World(redeliver=False)
    for name in "abc":
        await world.ref.tell(Work(name, crashes=name == "b"))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        assert await world.ref.ask(Work("d")) == 2
        world.tree.stop()
    assert world.seen == [(1, "a"), (1, "b"), (2, "c"), (2, "d")]
    assert world.letters == [("b", "crashed")]


async def test_redelivered_message_precedes_the_others(autojump_clock: MockClock) -> None:
    world = World(redeliver=True)
    for name in "abc":
        await world.ref.tell(Work(name, crashes=name == "b"))
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        assert await world.ref.ask(Work("d", crashes=1)) == 3
        world.tree.stop()
    assert world.seen == [(1, "a"), (1, "b"), (2, "b"), (2, "c"), (2, "d"), (3, "d")]
    assert world.letters == []


async def test_message_that_crashed_twice_is_given_up(autojump_clock: MockClock) -> None:
    world = World(redeliver=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.ref.tell(Work("before"))
        with pytest.raises(ActorDied, match="poison"):
            await world.ref.ask(Work("poison", crashes=99))
        assert await world.ref.ask(Work("after")) == 3
        world.tree.stop()
    assert world.seen == [(1, "before"), (1, "poison"), (2, "poison"), (3, "after")]
    assert world.letters == [("poison", "crashed")]


async def test_crash_elsewhere_does_not_count_for_the_message(autojump_clock: MockClock) -> None:
    """The message is redelivered after each such crash."""
    world = World(redeliver=True)
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await world.ref.ask(Work("long", lasts_s=10)))

    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        nursery.start_soon(ask)
        for _ in range(4):
            await trio.sleep(5)
            world.tree.actor("root/worker").crash(OSError("background"))
        await trio.sleep(15)
        world.tree.stop()
    assert answers == [5]
    assert world.letters == []


async def test_kill_counts_for_no_message(
    autojump_clock: MockClock,
) -> None:
    """A nursery in the handler wraps the cancel into a group."""

    class Nested(Actor):
        async def on_message(self, message: object) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)

    spec = ActorSpec("nested", Nested, grace_s=1)
    tree = Tree(SupervisorSpec("root", (spec,)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await spec.ref.tell("message")
        await trio.testing.wait_all_tasks_blocked()
        tree.stop()
    assert [letter.reason.value for letter in tree.dead_letters.newest] == ["cancelled"]
    assert str(spec.ref.status.last_exit) == "killed"


async def test_redelivery_ends_with_an_actor_that_is_not_restarted(autojump_clock: MockClock) -> None:
    world = World(redeliver=True, restart=Restart.TEMPORARY)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        with pytest.raises(ActorDied):
            await world.ref.ask(Work("poison", crashes=99))
        world.tree.stop()
    assert world.letters == [("poison", "stopped")]


async def test_redelivery_ends_with_the_tree(autojump_clock: MockClock) -> None:
    world = World(redeliver=True, grace_s=1)

    async def ask() -> None:
        with pytest.raises(ActorDied):
            await world.ref.ask(Work("long", lasts_s=99))

    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        world.tree.stop()
    assert trio.current_time() == 1
    assert world.letters == [("long", "stopped")]


async def test_new_incarnation_is_a_new_object(autojump_clock: MockClock) -> None:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker([], {}))
        return made[-1]

    spec = ActorSpec("worker", make)
    tree = Tree(SupervisorSpec("root", (spec,), backoff=NO_BACKOFF))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await spec.ref.tell(Work("x", crashes=1))
        await spec.ref.ask(Work("y"))
        tree.stop()
    assert len(made) == 2


async def test_messages_are_handled_one_at_a_time(autojump_clock: MockClock) -> None:
    world = World(redeliver=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        async with trio.open_nursery() as askers:
            for number in range(5):
                askers.start_soon(world.ref.ask, Work(str(number), lasts_s=2))
        assert trio.current_time() == 10
        world.tree.stop()


async def test_message_that_is_never_blamed_is_given_up_in_the_end(autojump_clock: MockClock) -> None:
    """A task of the actor crashes each time that the message is in hand, so the crash is never the message's own."""

    class Spawns(Actor[Work]):
        async def on_start(self, context: Context) -> None:
            self.context = context

        async def on_message(self, message: Work) -> None:
            seen.append(message.name)
            if message.name == "bad":
                self.context.spawn(self._crash)
                await trio.sleep(1)

        async def _crash(self) -> None:
            raise ValueError("in a task")

    seen: list[str] = []
    spec = ActorSpec("spawns", Spawns, redeliver=True, deliveries_max=4)
    async with Tree(SupervisorSpec("root", (spec,), intensity=100, backoff=NO_BACKOFF)) as tree:
        await spec.ref.tell(Work("bad"))
        await spec.ref.tell(Work("good"))
        await trio.sleep(60)
        [letter] = tree.dead_letters.newest
    assert seen == ["bad"] * 4 + ["good"]
    assert (letter.reason.value, letter.cause) == ("deliveries", "4 incarnations ended with this message in hand")


async def test_deferred_question_is_answered_after_redelivery(autojump_clock: MockClock) -> None:
    class Defers(Actor[Work]):
        async def on_start(self, context: Context) -> None:
            self.context = context

        async def on_message(self, message: Work) -> None:
            reply = self.context.defer()
            if self.context.incarnation == 1:
                raise ValueError("behind the deferral")
            reply.set("answered")

    spec = ActorSpec("defers", Defers, redeliver=True)
    async with Tree(SupervisorSpec("root", (spec,), backoff=NO_BACKOFF)):
        assert await spec.ref.ask(Work("a")) == "answered"
