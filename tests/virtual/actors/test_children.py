"""Children that are started and stopped while their supervisor runs."""

import gc
import weakref

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.actors import (
    NO_BACKOFF,
    Actor,
    ActorDied,
    ActorSpec,
    Context,
    MisuseError,
    Question,
    Restart,
    StartFailed,
    Strategy,
    SupervisorSpec,
    SupervisorStatistics,
    Tree,
)


@attrs.frozen
class WhoAreYou(Question[str]):
    """Is answered with the name and the incarnation."""


@attrs.frozen
class Break:
    """Crashes the actor."""


@attrs.frozen
class Leave:
    """Ends the actor normally."""


class Member(Actor[WhoAreYou | Break | Leave]):
    """Writes its starts and ends to a list."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    async def on_start(self, context: Context) -> None:
        self.context = context
        self.told.append(f"+{self.name}{context.incarnation}")

    async def on_message(self, message: WhoAreYou | Break | Leave) -> object:
        match message:
            case WhoAreYou():
                return f"{self.name}{self.context.incarnation}"
            case Break():
                raise ValueError(self.name)
            case Leave():
                self.context.exit()
        return None

    async def on_stop(self) -> None:
        self.told.append(f"-{self.name}{self.context.incarnation}")


class World:
    """A pool with one child of its own, below a root."""

    def __init__(self, strategy: Strategy = Strategy.ONE_FOR_ONE, intensity: int = 5) -> None:
        self.told: list[str] = []
        self.first = self.member("first")
        self.pool = SupervisorSpec("pool", (self.first,), strategy, intensity=intensity, backoff=NO_BACKOFF)
        self.tree = Tree(SupervisorSpec("root", (self.pool,), backoff=NO_BACKOFF))

    def member(self, name: str, restart: Restart = Restart.PERMANENT) -> ActorSpec[WhoAreYou | Break | Leave]:
        return ActorSpec(name, lambda: Member(name, self.told), restart=restart, registered_name=f"member {name}")

    def children(self) -> list[str]:
        [pool] = self.tree.statistics().children
        assert isinstance(pool, SupervisorStatistics)
        return [child.name for child in pool.children]


async def test_child_is_started_found_asked_and_stopped(autojump_clock: MockClock) -> None:
    world = World()
    async with world.tree:
        spec = world.member("more")
        await world.pool.ref.start_child(spec)
        assert await spec.ref.ask(WhoAreYou()) == "more1"
        assert spec.ref.path == "root/pool/more"
        assert world.tree.find("member more") is spec.ref
        assert world.children() == ["first", "more"]
        await world.pool.ref.stop_child("more")
        assert world.told == ["+first1", "+more1", "-more1"]
        assert world.children() == ["first"]
        assert world.tree.find("member more") is None
        with pytest.raises(ActorDied):
            await spec.ref.ask(WhoAreYou())
        await world.pool.ref.start_child(world.member("more"))
    assert world.told == ["+first1", "+more1", "-more1", "+more1", "-more1", "-first1"]


async def test_started_child_is_restarted_behind_its_siblings(autojump_clock: MockClock) -> None:
    world = World(Strategy.REST_FOR_ONE)
    async with world.tree:
        for name in ("a", "b"):
            await world.pool.ref.start_child(world.member(name))
        world.told.clear()
        world.tree.actor("root/pool/a").crash(ValueError("again"))
        await trio.sleep(1)
        assert world.told == ["-a1", "-b1", "+a2", "+b2"]
        world.told.clear()
        world.tree.actor("root/pool/first").crash(ValueError("again"))
        await trio.sleep(1)
        assert world.told == ["-first1", "-b2", "-a2", "+first2", "+a3", "+b3"]


@pytest.mark.parametrize(
    ("restart", "message", "stays"),
    [
        (Restart.TEMPORARY, Leave(), False),
        (Restart.TEMPORARY, Break(), False),
        (Restart.TRANSIENT, Leave(), False),
        (Restart.TRANSIENT, Break(), True),
        (Restart.PERMANENT, Leave(), True),
    ],
)
async def test_child_that_ends_for_good_is_forgotten(
    autojump_clock: MockClock, restart: Restart, message: Break | Leave, stays: bool
) -> None:
    world = World()
    async with world.tree:
        spec = world.member("more", restart)
        await world.pool.ref.start_child(spec)
        await spec.ref.tell(message)
        await trio.sleep(1)
        assert ("more" in world.children()) == stays
        assert (world.tree.find("member more") is not None) == stays
        if not stays:
            await world.pool.ref.start_child(world.member("more", restart))


async def test_restarted_supervisor_forgets_what_was_started(autojump_clock: MockClock) -> None:
    world = World(intensity=0)
    async with world.tree:
        spec = world.member("more")
        await world.pool.ref.start_child(spec)
        world.tree.actor("root/pool/first").crash(ValueError("too often"))
        await trio.sleep(1)
        assert world.children() == ["first"]
        assert world.told == ["+first1", "+more1", "-first1", "-more1", "+first2"]
        with pytest.raises(ActorDied):
            await spec.ref.tell(Break())
        await world.pool.ref.start_child(world.member("more"))


async def test_wrong_commands_are_refused_and_change_nothing(autojump_clock: MockClock) -> None:
    world = World()
    with pytest.raises(ActorDied, match="not running"):
        await world.pool.ref.start_child(world.member("early"))
    async with world.tree:
        for wrong in (world.member("first"), world.first):
            with pytest.raises(MisuseError, match="has a child first already"):
                await world.pool.ref.start_child(wrong)
        taken = ActorSpec("other", lambda: Member("other", world.told), registered_name="member first")
        with pytest.raises(MisuseError, match="cannot have the name member first"):
            await world.pool.ref.start_child(taken)
        with pytest.raises(MisuseError, match="it has started: none"):
            await world.pool.ref.stop_child("first")
        assert world.children() == ["first"]
    with pytest.raises(ActorDied, match="not running"):
        await world.pool.ref.stop_child("first")


async def test_refused_subtree_leaves_no_place_and_no_name(autojump_clock: MockClock) -> None:
    """The last actor of the subtree has a name that is taken. With another name the same specs are accepted."""
    world = World()
    inner = world.member("inner")
    taken = ActorSpec("taken", lambda: Member("taken", world.told), registered_name="member first")
    async with world.tree:
        for refused in (SupervisorSpec("group", (inner, taken)), taken):
            with pytest.raises(MisuseError, match="cannot have the name member first"):
                await world.pool.ref.start_child(refused)
            assert world.tree.find("member inner") is None
            assert [actor.path for actor in world.tree.actors()] == ["root/pool/first"]
        await world.pool.ref.start_child(SupervisorSpec("group", (inner,)))
        assert await inner.ref.ask(WhoAreYou()) == "inner1"


async def test_failed_start_of_a_child_harms_no_sibling(autojump_clock: MockClock) -> None:
    class Fails(Actor):
        async def on_start(self, context: Context) -> None:
            raise ValueError("no port")

    world = World()
    async with world.tree:
        with pytest.raises(StartFailed):
            await world.pool.ref.start_child(ActorSpec("fails", Fails))
        assert world.children() == ["first"]
        assert await world.first.ref.ask(WhoAreYou()) == "first1"


async def test_whole_subtree_is_started_and_stopped(autojump_clock: MockClock) -> None:
    world = World()
    inner = world.member("inner")
    async with world.tree:
        await world.pool.ref.start_child(SupervisorSpec("group", (inner,)))
        assert await inner.ref.ask(WhoAreYou()) == "inner1"
        await world.pool.ref.stop_child("group")
        assert world.tree.find("member inner") is None
        assert [actor.path for actor in world.tree.actors()] == ["root/pool/first"]


@pytest.mark.parametrize("command", ["start", "stop"])
async def test_supervisor_that_stops_answers_every_command(autojump_clock: MockClock, command: str) -> None:
    """The command waits behind a start that never ends."""

    class Slow(Actor):
        async def on_start(self, context: Context) -> None:
            await trio.sleep_forever()

    world = World()
    answers: list[str] = []

    async def send(name: str, spec: ActorSpec | None = None) -> None:
        try:
            await (world.pool.ref.stop_child(name) if spec is None else world.pool.ref.start_child(spec))
        except ActorDied:
            answers.append("died")

    async with trio.open_nursery() as nursery:
        await nursery.start(world.tree.run)
        nursery.start_soon(send, "slow", ActorSpec("slow", Slow, start_s=1e6))
        await wait_all_tasks_blocked()
        nursery.start_soon(send, "x", world.member("x") if command == "start" else None)
        await wait_all_tasks_blocked()
        world.tree.stop()
    assert answers == ["died", "died"]


async def test_thousands_of_temporary_children_leave_nothing(autojump_clock: MockClock) -> None:
    world = World()
    kept: list[weakref.ref[object]] = []
    async with world.tree:
        for number in range(300):
            spec = world.member(f"m{number}", Restart.TEMPORARY)
            await world.pool.ref.start_child(spec)
            await spec.ref.tell(Leave() if number % 2 else Break())
            kept.append(weakref.ref(spec.ref))
            del spec
        await trio.sleep(1)
        gc.collect()
        # The newest dead letters keep their messages, and the last crash may be kept.
        assert sum(each() is not None for each in kept) <= 1
        assert world.children() == ["first"]


async def test_spec_of_a_tree_is_refused_by_a_second_tree() -> None:
    """Otherwise the second tree would take the running actor's messages."""
    spec = ActorSpec("one", Actor)
    Tree(SupervisorSpec("root", (spec,)))
    with pytest.raises(MisuseError, match="has the same spec as root/one"):
        Tree(SupervisorSpec("root", (spec,)))
    root = SupervisorSpec("root", ())
    Tree(root)
    with pytest.raises(MisuseError, match="two supervisors"):
        Tree(root)
