"""The backend actor alone: what the actor tells its batcher, and what ends the actor."""

import contextlib
import random
from collections.abc import AsyncIterator

import attrs
import trio
from trio.testing import MockClock

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, Context, Down, SupervisorSpec, Tree
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Job
from llmactors.backends.messages import Assign, BackendEnding, BackendReady, BackendStalled, Hello, Key, Produced
from llmactors.backends.mock.backend import MockBackend, MockSettings
from llmactors.messages import GenerateRequest


def job(name: str, max_tokens: int = 100) -> Job:
    return Job((name, 1), GenerateRequest(name, "m", name, max_tokens=max_tokens))


class Sink(Actor):
    """Takes the place of the batcher, and records each message with its time."""

    def __init__(self, heard: list[tuple[float, object]], backend: ActorSpec) -> None:
        self.heard = heard
        self.backend = backend

    async def on_start(self, context: Context) -> None:
        context.watch(self.backend.ref)

    async def on_message(self, message: object) -> None:
        self.heard.append((trio.current_time(), message))

    async def on_down(self, down: Down) -> None:
        self.heard.append((trio.current_time(), down))


@attrs.define(eq=False)
class Sick(MockBackend):
    """A mock whose health check hangs or fails, and whose `close` is slow."""

    check_s: float = 0.0
    check_fails: bool = False
    close_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        super().__init__(MockSettings(step_ms=10, crash_at=5, crash_prompt="crash"))

    async def check(self) -> None:
        await trio.sleep(self.check_s)
        if self.check_fails:
            raise OSError("sick")

    async def close(self) -> None:
        await trio.sleep(self.close_s)


class World:
    def __init__(self, backend: MockBackend, health: HealthSettings | None = None) -> None:
        self.heard: list[tuple[float, object]] = []
        made = [backend]

        def make() -> MockBackend:
            return made.pop() if made else MockBackend()

        self.backend: ActorSpec = ActorSpec(
            "backend", lambda: BackendActor(make, self.sink.ref, health or HealthSettings())
        )
        self.sink = ActorSpec("sink", lambda: Sink(self.heard, self.backend))
        root = SupervisorSpec("root", (self.sink, self.backend), backoff=NO_BACKOFF)
        self.tree = Tree(root, rng=random.Random(0))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.tree.run)
            yield
            self.tree.stop()

    def kinds(self) -> list[str]:
        return [type(message).__name__ for _, message in self.heard if not isinstance(message, Produced)]

    def first(self, kind: type) -> float:
        return next(time for time, message in self.heard if isinstance(message, kind))


async def test_hello_drops_all_jobs_and_is_answered(autojump_clock: MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=10))
    world = World(backend)
    async with world.running():
        await world.backend.ref.tell(Assign((job("a"), job("b"))))
        await trio.sleep(0.035)
        assert len(backend._slots) == 2
        await world.backend.ref.tell(Hello())
        await trio.sleep(0.02)
        assert len(backend._slots) == 0
        assert world.kinds() == ["BackendReady", "BackendReady"]


async def test_touched_jobs_are_told_before_a_slow_close(autojump_clock: MockClock) -> None:
    """So the batcher sends no job there while the backend closes."""
    world = World(Sick(close_s=3))
    async with world.running():
        await world.backend.ref.tell(Assign((job("crash"), job("innocent"))))
        await trio.sleep(5)
        assert world.kinds() == ["BackendReady", "BackendEnding", "Down", "BackendReady"]
        [ending] = [message for _, message in world.heard if isinstance(message, BackendEnding)]
        assert ending == BackendEnding(1, frozenset[Key]({("crash", 1), ("innocent", 1)}))
        assert world.first(Down) - world.first(BackendEnding) == 3


async def test_failing_health_check_ends_the_backend(autojump_clock: MockClock) -> None:
    world = World(Sick(check_fails=True), HealthSettings(check_every_s=2))
    async with world.running():
        began = trio.current_time()
        await trio.sleep(3)
        assert world.first(Down) - began == 2
        assert world.backend.ref.incarnation == 2


async def test_hanging_health_check_ends_the_backend(autojump_clock: MockClock) -> None:
    world = World(Sick(check_s=100), HealthSettings(check_every_s=2, check_s=7))
    async with world.running():
        began = trio.current_time()
        await trio.sleep(10)
        assert world.first(Down) - began == 9
        assert "health check" in str(world.backend.ref.status.last_exit)


async def test_pause_of_the_process_is_no_failed_check(autojump_clock: MockClock) -> None:
    world = World(Sick(check_s=5), HealthSettings(check_every_s=2, check_s=7))
    async with world.running():
        await trio.sleep(3)
        autojump_clock.jump(30)
        await trio.sleep(30)
        assert world.backend.ref.incarnation == 1


async def test_long_step_is_no_failed_check(autojump_clock: MockClock) -> None:
    """The check waits for the end of the step, and its time limit counts from then on."""
    world = World(
        MockBackend(MockSettings(step_ms=30_000)), HealthSettings(check_every_s=1, check_s=1, stalled_s=100, hung_s=100)
    )
    async with world.running():
        await world.backend.ref.tell(Assign((job("a"),)))
        await trio.sleep(100)
        assert world.kinds() == ["BackendReady"]


async def test_stall_is_told_once_and_again_after_hello(autojump_clock: MockClock) -> None:
    world = World(MockBackend(MockSettings(step_ms=30_000)), HealthSettings(stalled_s=4))
    async with world.running():
        await world.backend.ref.tell(Assign((job("a", max_tokens=1),)))
        await trio.sleep(20)
        assert world.kinds() == ["BackendReady", "BackendStalled"]
        assert 4 <= world.first(BackendStalled) - world.first(BackendReady) <= 5.1
        await world.backend.ref.tell(Hello())
        await trio.sleep(5)
        assert world.kinds()[2:] == ["BackendReady", "BackendStalled"]
        await trio.sleep(10)
        assert world.kinds()[4:] == ["BackendReady"]


async def test_hang_ends_the_backend(autojump_clock: MockClock) -> None:
    world = World(MockBackend(MockSettings(step_ms=10, hang_at=5)), HealthSettings(stalled_s=1, hung_s=10))
    async with world.running():
        await world.backend.ref.tell(Assign((job("hang"),)))
        await trio.sleep(20)
        assert world.kinds() == ["BackendReady", "BackendStalled", "BackendEnding", "Down", "BackendReady"]
        assert "longer than 10 s" in str(world.backend.ref.status.last_exit)


async def test_each_incarnation_says_first_that_it_is_ready(autojump_clock: MockClock) -> None:
    world = World(Sick(check_fails=True))
    async with world.running():
        await trio.sleep(3)
        ready = [message.incarnation for _, message in world.heard if isinstance(message, BackendReady)]
        assert ready == [1, 2]
