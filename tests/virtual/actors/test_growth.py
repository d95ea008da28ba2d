"""A thousand restarts leave no objects behind."""

import gc

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import NO_BACKOFF, Actor, ActorRef, ActorSpec, Context, Strategy, SupervisorSpec, Tree

RESTARTS = 1_000


class Watcher(Actor):
    """Watches its sibling in every incarnation."""

    def __init__(self, other: ActorRef) -> None:
        self.other = other

    async def on_start(self, context: Context) -> None:
        context.watch(self.other)


async def test_thousands_of_restarts_leave_no_objects(autojump_clock: MockClock) -> None:
    watched = ActorSpec("watched", Actor)
    watcher = ActorSpec("watcher", lambda: Watcher(watched.ref))
    root = SupervisorSpec(
        "root", (watched, watcher), Strategy.REST_FOR_ONE, intensity=3, period_s=0.5, backoff=NO_BACKOFF
    )
    tree = Tree(root)

    async def restart(times: int) -> int:
        for number in range(times):
            await trio.sleep(1)
            # A restart of the whole group, or of the watcher alone.
            tree.actor("root/watched" if number % 2 else "root/watcher").crash(ValueError("again"))
        await wait_all_tasks_blocked()
        gc.collect()
        return len(gc.get_objects())

    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        await restart(200)
        before = await restart(2)
        after = await restart(RESTARTS)
        assert watched.ref.incarnation > RESTARTS / 2
        assert watcher.ref.incarnation > RESTARTS
        assert after - before < 100
        assert len(watched.ref.status.watchers) == 1
        assert tree.root._planner.recent_restarts <= 3
        tree.stop()
