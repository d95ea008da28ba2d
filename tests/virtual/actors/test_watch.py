"""`watch` reports each death, past ones too, and ends with the watcher's incarnation."""

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import NO_BACKOFF, Actor, ActorRef, ActorSpec, Backoff, Context, Down, SupervisorSpec, Tree


@attrs.frozen
class Watch:
    ref: ActorRef
    since: int | None = None


class Watcher(Actor):
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    async def on_start(self, context: Context) -> None:
        self.context = context

    async def on_message(self, message: object) -> None:
        if isinstance(message, Watch):
            self.context.watch(message.ref, since=message.since)
        else:
            self.heard.append(str(message))
            await trio.sleep(1)

    async def on_down(self, down: Down) -> None:
        self.heard.append(f"#{self.context.incarnation}: {down.actor}#{down.incarnation} {down.exit}")
        if "hang" in str(down.exit):
            await trio.sleep_forever()


class World:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.watched = ActorSpec("watched", Actor)
        self.watcher = ActorSpec("watcher", lambda: Watcher(self.heard), budget_s=9)
        root = SupervisorSpec("root", (self.watched, self.watcher), intensity=99, backoff=NO_BACKOFF)
        self.tree = Tree(root)

    async def watch(self, since: int | None = None) -> None:
        await self.watcher.ref.ask(Watch(self.watched.ref, since))

    async def crash(self, text: str, who: str = "watched") -> None:
        self.tree.actor(f"root/{who}").crash(ValueError(text))
        await wait_all_tasks_blocked()


async def test_each_death_is_reported(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        await world.crash("one")
        await world.crash("two")
        world.tree.stop()
    assert world.heard == [
        "#1: root/watched#1 crashed: ValueError: one",
        "#1: root/watched#2 crashed: ValueError: two",
    ]


async def test_watching_twice_reports_once(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        await world.watch()
        await world.crash("one")
        world.tree.stop()
    assert len(world.heard) == 1


async def test_death_notice_precedes_queued_messages(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        for number in range(3):
            await world.watcher.ref.tell(number)
        await wait_all_tasks_blocked()
        await world.crash("x")
        await trio.sleep(9)
        world.tree.stop()
    assert world.heard == ["0", "#1: root/watched#1 crashed: ValueError: x", "1", "2"]


async def test_past_death_is_reported_if_the_actor_is_down(autojump_clock: MockClock) -> None:
    heard: list[str] = []
    watched = ActorSpec("watched", Actor)
    watcher = ActorSpec("watcher", lambda: Watcher(heard))
    tree = Tree(SupervisorSpec("root", (watched, watcher), backoff=Backoff(first_s=50, cap_s=50, jitter=0)))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        tree.actor("root/watched").crash(ValueError("x"))
        await trio.sleep(1)
        await watcher.ref.ask(Watch(watched.ref))
        await wait_all_tasks_blocked()
        assert heard == ["#1: root/watched#1 crashed: ValueError: x"]
        tree.stop()


async def test_past_death_of_a_given_incarnation_is_reported(autojump_clock: MockClock) -> None:
    """The notice names that incarnation, with the newest reason that is known."""
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.crash("one")
        await world.crash("two")
        await world.watch()
        assert world.heard == []
        await world.watch(since=3)
        assert world.heard == []
        await world.watch(since=1)
        await wait_all_tasks_blocked()
        world.tree.stop()
    assert world.heard == ["#1: root/watched#1 crashed: ValueError: two"]


async def test_watch_of_an_actor_that_never_died_reports_nothing(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        await wait_all_tasks_blocked()
        assert world.heard == []
        world.tree.stop()
        # The watcher stops first.
    assert world.heard == []


async def test_watch_ends_with_the_watchers_incarnation(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        await world.crash("x", who="watcher")
        await world.crash("y")
        assert world.heard == []
        assert not world.watched.ref.status.watchers
        await world.watch()
        await world.crash("z")
        world.tree.stop()
    assert world.heard == ["#2: root/watched#2 crashed: ValueError: z"]


async def test_hang_at_a_death_notice_is_a_crash(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        await world.watch()
        await world.crash("hang")
        await trio.sleep(10)
        assert world.watcher.ref.incarnation == 2
        assert "HandlerHung: root/watcher, handling a death notice" in str(world.watcher.ref.status.last_exit)
        world.tree.stop()
