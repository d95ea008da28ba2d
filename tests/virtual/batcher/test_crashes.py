"""Crashes of every actor at any moment: each accepted request ends once, and each token is there once."""

import pytest
import structlog
import trio
from trio.testing import MockClock

from llmactors.actors import Actor, ActorSpec
from llmactors.backends.actor import HealthSettings
from llmactors.backends.base import Batching
from llmactors.backends.directory import ModelState
from llmactors.backends.messages import BackendReady, BackendStalled
from llmactors.backends.mock.backend import MockBackend, MockSettings
from tests.virtual.batcher.conftest import BACKEND, BATCHER, MODEL, World, codes

TOKENS = 6


@pytest.mark.parametrize("requests", [1, 2, 7])
@pytest.mark.parametrize("token", range(1, TOKENS + 1))
@pytest.mark.parametrize("batching", Batching)
async def test_backend_crash_at_any_token_loses_nothing(
    autojump_clock: MockClock, token: int, requests: int, batching: Batching
) -> None:
    world = World(MockSettings(step_ms=10, slots=4, batching=batching, crash_at=token, crash_times=2))
    async with world.running():
        for _ in range(requests):
            await world.submit(max_tokens=TOKENS)
    assert codes(world) == ["length"] * requests
    assert world.incarnations == (1, 3)


async def test_dead_backend_counts_as_running_nothing(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=2))
    async with world.running():
        await world.submit(max_tokens=20)
        await world.until(lambda: world.directory.running[MODEL] == 1)
        world.crash(BACKEND)
        await trio.sleep(0.02)  # less than the pause before the next start
        assert (world.state, world.directory.running[MODEL]) == (ModelState.DOWN, 0)


@pytest.mark.parametrize("paths", [(BATCHER,), (BACKEND,), (BATCHER, BACKEND), (BACKEND, BATCHER)], ids="+".join)
@pytest.mark.parametrize("step_ms", [0, 10])
async def test_crash_at_any_pass_of_the_scheduler_loses_nothing(
    autojump_clock: MockClock, paths: tuple[str, ...], step_ms: int
) -> None:
    """Each round crashes one pass later than the round before, until the requests have ended before the crash."""
    passes = 0
    ended_before = 0
    while ended_before < 3:
        world = World(MockSettings(step_ms=step_ms, slots=2))
        async with world.running():
            for _ in range(3):
                await world.submit(max_tokens=3)
            for _ in range(passes):
                if step_ms:
                    await trio.sleep(step_ms / 7000)
                else:
                    await trio.lowlevel.checkpoint()
            ended_before += all(stream.done.is_set() for stream in world.streams)
            for path in paths:
                assert world.crash(path)
        assert codes(world) == ["length"] * 3
        expected = tuple(2 if path in paths else 1 for path in (BATCHER, BACKEND))
        assert world.incarnations == expected
        passes += 1
    assert passes > 3


@pytest.mark.parametrize("path", [BATCHER, BACKEND])
async def test_second_crash_during_a_recovery_loses_nothing(autojump_clock: MockClock, path: str) -> None:
    """The requests are in quarantine by then: each runs alone, and all end."""
    for after_ms in range(0, 120, 7):
        world = World(MockSettings(step_ms=10, slots=4))
        async with world.running():
            for _ in range(4):
                await world.submit(max_tokens=TOKENS)
            await trio.sleep(0.025)
            world.crash(BACKEND)
            await trio.sleep(after_ms / 1000)
            world.crash(path)
        assert codes(world) == ["length"] * 4


async def test_poison_prompt_ends_and_the_others_finish(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=8, crash_at=3, crash_prompt="poison"), intensity=5)
    async with world.running():
        for number in range(8):
            await world.submit("poison" if number == 4 else "fine", 10)
        await world.all_ended()
        info = await world.memory.info("r4")
        letters = await world.memory.dead_letters()
    assert codes(world) == ["length"] * 4 + ["POISONED"] + ["length"] * 3
    # Twice with all, once with seven, once with two others, and then alone.
    assert info.attempt == 5
    assert len(world.streams[4].tokens) == 2
    assert [letter.request.id for letter in letters] == ["r4"]
    assert "injected: crash at token 3" in letters[0].cause
    assert world.incarnations == (1, 6)


async def test_two_poison_prompts_end_and_the_others_finish(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=8, crash_at=3, crash_prompt="poison"), intensity=6)
    with structlog.testing.capture_logs() as lines:
        async with world.running():
            for number in range(10):
                await world.submit("poison" if number in {2, 7} else "fine", 10)
    assert [index for index, code in enumerate(codes(world)) if code == "POISONED"] == [2, 7]
    assert codes(world).count("length") == 8
    given_up = [line for line in lines if "dead letter" in line["event"]]
    assert sorted(line["request_id"] for line in given_up) == ["r2", "r7"]
    assert all("injected: crash at token 3" in line["cause"] for line in given_up)
    assert world.metrics.given_up == 2
    assert world.incarnations[1] <= 9


async def test_failed_starts_of_a_backend_cost_no_attempts(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, crash_at=2, crash_times=1))
    async with world.running():
        # From now on four starts fail.
        world.mock = MockSettings(step_ms=10, crash_at=2, crash_times=1, start_fail=4)
        world.crash(BACKEND)
        await world.until_state(ModelState.DOWN)
        stream = await world.submit(max_tokens=5)
        await stream.done.wait()
        assert (await world.memory.info(stream.request.id)).attempt == 2
    assert world.incarnations == (1, 7)


async def test_hang_is_shown_and_then_ended(autojump_clock: MockClock) -> None:
    """READY, STALLED after `stalled_s`, DOWN after `hung_s`, READY again."""
    health = HealthSettings(stalled_s=5, hung_s=60)
    world = World(MockSettings(step_ms=10, hang_at=3, crash_times=1), health=health)
    async with world.running():
        stream = await world.submit()
        await world.until(lambda: len(stream.tokens) == 2)
        hung_at = trio.current_time()
        assert 5 <= await world.until_state(ModelState.STALLED) - hung_at <= 6.5
        assert 60 <= await world.until_state(ModelState.DOWN) - hung_at <= 61.5
        assert await world.until_state(ModelState.READY) - hung_at <= 61.6
    assert codes(world) == ["length"]
    assert world.incarnations == (1, 2)


async def test_slow_step_is_shown_while_it_lasts(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slow_at=2, slow_ms=20_000))
    async with world.running():
        stream = await world.submit()
        await world.until_state(ModelState.STALLED)
        await world.until_state(ModelState.READY)
        assert stream.end is None or trio.current_time() - stream.ended_at < 2
    assert world.incarnations == (1, 1)


async def test_restarted_batcher_shows_that_its_backend_stalls(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slow_at=2, slow_ms=30_000))
    async with world.running():
        await world.submit()
        await world.until_state(ModelState.STALLED)
        world.crash(BATCHER)
        await world.until(lambda: world.incarnations[0] == 2)
        await trio.sleep(1)
        assert world.state is ModelState.STALLED
    assert codes(world) == ["length"]
    assert world.incarnations == (2, 1)


async def test_batcher_restart_while_the_backend_is_down(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, crash_at=3, crash_times=1))
    async with world.running():
        stream = await world.submit()
        await world.until(lambda: world.state is ModelState.DOWN)
        world.crash(BATCHER)
        await stream.done.wait()
    assert world.incarnations == (2, 2)


async def test_backend_stopped_with_its_siblings_costs_no_attempt(autojump_clock: MockClock) -> None:
    """The supervisor restarts the backend because a sibling crashes too often. The requests did not cause that."""
    sibling = ActorSpec("sibling", Actor)
    world = World(MockSettings(step_ms=10), intensity=2, siblings=(sibling,))
    async with world.running():
        stream = await world.submit(max_tokens=200)
        for _ in range(3):
            await world.until(lambda: sibling.ref.running)
            world.crash("root/backends/sibling")
            await trio.sleep(0.3)
        await world.until(lambda: world.incarnations == (1, 2))
        await stream.done.wait()
        assert (await world.memory.info(stream.request.id)).attempt == 1
    assert codes(world) == ["length"]


async def test_crash_counts_only_against_jobs_in_the_backend(autojump_clock: MockClock) -> None:
    """Requests that waited for the next step, or came while the dead backend was closed, keep their attempts."""

    class SlowToClose(MockBackend):
        async def close(self) -> None:
            await trio.sleep(3)

    world = World(make=lambda: SlowToClose(MockSettings(step_ms=100)))
    async with world.running():
        inside = await world.submit(max_tokens=5)
        await trio.sleep(0.12)
        waiting = await world.submit(max_tokens=5)
        await trio.sleep(0.03)
        world.crash(BACKEND)
        await trio.sleep(0.5)
        assert world.state is ModelState.DOWN
        late = await world.submit(max_tokens=5)
        await trio.sleep(1)
        assert (await world.memory.info(late.request.id)).state == "queued"
        await world.all_ended()
        attempts = [(await world.memory.info(stream.request.id)).attempt for stream in (inside, waiting, late)]
    assert attempts == [2, 1, 1]
    assert codes(world) == ["length"] * 3


@pytest.mark.parametrize("kind", ["ready", "stalled"])
async def test_messages_of_a_dead_backend_do_not_count(autojump_clock: MockClock, kind: str) -> None:
    """A message may wait in the mailbox while the `Down` overtakes it. Jobs sent because of it would be lost."""
    world = World(MockSettings(step_ms=10))
    async with world.running():
        world.faults.failed_starts = -1  # the next start fails, so that it is down for a while
        world.crash(BACKEND)
        await world.until(lambda: world.state is ModelState.DOWN)
        stream = await world.submit()
        stale = BackendReady(1, world.backend.capabilities) if kind == "ready" else BackendStalled(1, "no output")
        await world.batcher_spec.ref.tell(stale)
        await trio.sleep(0.01)
        assert world.state is ModelState.DOWN
        assert (await world.memory.info(stream.request.id)).state == "queued"
    assert codes(world) == ["length"]


async def test_takeover_is_one_log_line(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4))
    async with world.running():
        request_id = (await world.submit(max_tokens=TOKENS)).request.id
        await trio.sleep(0.035)
        with structlog.testing.capture_logs() as lines:
            world.crash(BACKEND)
            await world.until(lambda: all(stream.done.is_set() for stream in world.streams))
    [line] = [line for line in lines if line["event"].startswith("a worker goes on")]
    assert line["request_id"] == request_id
    assert (line["log_level"], line["cause"], line["attempt"]) == ("warning", "crashed", 2)
    assert (line["next_token"], line["from_worker"]) == (4, line["worker"])
    assert "Drill" in line["detail"]
    series = world.metrics.registry.get_sample_value
    assert series("llmactors_takeovers_total", {"model": MODEL, "cause": "crashed"}) == 1
    assert series("llmactors_batch_wait_seconds_count", {"model": MODEL, "class": "1"}) == 2
    assert series("llmactors_completion_tokens_total", {"model": MODEL}) == TOKENS


async def test_quarantine_is_logged_with_its_causes(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=4, crash_at=2, crash_times=3))
    with structlog.testing.capture_logs() as lines:
        async with world.running():
            await world.submit(max_tokens=TOKENS)
    found = [line for line in lines if line["event"].startswith("a request runs in quarantine")]
    assert [line["attempt"] for line in found] == [3]
    assert len(found[0]["causes"]) == 2
