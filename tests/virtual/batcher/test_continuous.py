"""Continuous batching: when requests join and leave, what ends early, and how few trips to the ledger there are."""

import trio
import trio.lowlevel
from trio.testing import MockClock

from llmactors.backends.base import Output
from llmactors.backends.messages import Produced
from llmactors.backends.mock.backend import MockSettings
from llmactors.batcher.settings import BatcherSettings
from llmactors.errors import LlmactorsError
from llmactors.messages import Failed, TokenDelta
from tests.virtual.batcher.conftest import World, codes


class Odd(LlmactorsError):
    """An error whose code no stream may carry."""

    code = "ODD"


async def test_request_joins_one_step_after_a_slot_is_free(
    autojump_clock: MockClock,
) -> None:
    """A step that runs while the slot is filled goes on without the new request."""
    world = World(MockSettings(step_ms=10, slots=2))
    async with world.running():
        began = trio.current_time()
        await world.submit(max_tokens=2)
        await trio.sleep(0.005)
        for max_tokens in (5, 3):
            await world.submit(max_tokens=max_tokens)
        await world.all_ended()
        times = [[round(1000 * (time - began)) for time in stream.times] for stream in world.streams]
        assert times == [[10, 20], [20, 30, 40, 50, 60], [40, 50, 60]]
    assert codes(world) == ["length"] * 3
    assert world.metrics.batches == [1, 1, 1]


async def test_continuous_backend_never_waits_for_the_window(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10), batcher=BatcherSettings(window_s=5))
    async with world.running():
        stream = await world.submit()
        await stream.done.wait()
        assert round(stream.times[0] - stream.submitted_at, 6) == 0.01


async def test_all_slots_are_used_while_requests_wait(
    autojump_clock: MockClock,
) -> None:
    world = World(MockSettings(step_ms=10, slots=4))
    async with world.running():
        for _ in range(40):
            await world.submit(max_tokens=10)
        await world.all_ended()
        # Ten waves of ten steps; each wave is two steps late at most.
        assert max(size for size, _ in world.metrics.steps) == 4
        assert world.streams[-1].ended_at - world.streams[0].submitted_at <= 10 * 0.1 + 10 * 0.02


async def test_submit_costs_one_beat_at_most(autojump_clock: MockClock) -> None:
    """Requests that are submitted before the batcher has beaten share the beat."""
    world = World(MockSettings(step_ms=10, slots=64))
    async with world.running():
        await trio.sleep(0.5)
        before, began = world.memory.beats, trio.current_time()
        for _ in range(20):
            await world.submit(max_tokens=300)
        await trio.lowlevel.checkpoint()
        assert world.memory.beats - before <= 20
        await world.all_ended()
        elapsed_s = trio.current_time() - began
        assert world.memory.beats - before <= 20 + elapsed_s + 1
        idle, began = world.memory.beats, trio.current_time()
        await trio.sleep(100)
        assert 99 <= world.memory.beats - idle <= 101


async def test_submits_at_one_moment_share_a_beat(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=64))
    async with world.running():
        await trio.sleep(0.5)
        before = world.memory.beats
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(world.submit, f"prompt {number}")
        assert world.memory.beats - before <= 5


async def test_refused_and_too_long_prompts_end_alone(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, refuse="no way", context=100))
    async with world.running():
        await world.submit("fine", 20)
        await trio.sleep(0.05)
        await world.submit("no way, sir", 20)
        await world.submit("too long", 99)
        await world.submit("fine too", 20)
    assert codes(world) == ["length", "BACKEND_FAILED", "CONTEXT_EXCEEDED", "length"]
    assert world.incarnations == (1, 1)
    assert world.metrics.worker_errors == 2


async def test_field_not_honoured_ends_before_the_backend(autojump_clock: MockClock) -> None:
    """The gateway refuses such a request, unless a worker of another version has declared the field."""
    world = World(MockSettings(step_ms=10))
    async with world.running():
        await world.submit("fine", 20)
        await world.submit("louder", 20, frequency_penalty=1.0)
        await world.submit("", 20, prompt_ids=(1, 2, 3))
    assert codes(world) == ["length", "INVALID_REQUEST", "length"]
    assert world.incarnations == (1, 1)
    end = world.streams[1].end
    assert isinstance(end, Failed)
    assert end.message == "`frequency_penalty` is not served by this model; leave it out"


async def test_request_cancelled_in_the_queue_never_starts(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=1))
    async with world.running():
        await world.submit(max_tokens=50)
        await trio.sleep(0.1)
        stream = await world.submit()
        await world.memory.cancel(stream.request.id)
    assert codes(world) == ["length", "cancelled"]
    assert world.metrics.batches == [1]


async def test_cancel_frees_the_slot_for_the_next_step(autojump_clock: MockClock) -> None:
    """At any moment: claimed but not begun, or in the middle of a step."""
    for after_ms in (0, 1, 10, 15, 25):
        world = World(MockSettings(step_ms=10, slots=1))
        async with world.running():
            first = await world.submit(max_tokens=1000)
            await trio.sleep(after_ms / 1000)
            second = await world.submit(max_tokens=3)
            await world.memory.cancel(first.request.id)
            cancelled_at = trio.current_time()
            await second.done.wait()
            assert second.times[0] - cancelled_at <= 0.02 + 1e-9
            assert len(first.tokens) <= after_ms // 10
        assert codes(world) == ["cancelled", "length"]
        assert world.incarnations == (1, 1)


async def test_deadline_ends_a_request_running_or_queued(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10, slots=1))
    async with world.running():
        running = await world.submit(max_tokens=1000, deadline_ms=world.wall_ms() + 300)
        await trio.sleep(0.05)
        queued = await world.submit(deadline_ms=world.wall_ms() + 100)
        after = await world.submit()
    assert codes(world) == ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "length"]
    assert queued.tokens == []
    assert 25 <= len(running.tokens) <= 40
    assert after.ended_at < running.submitted_at + 0.5


async def test_stale_output_is_not_written(autojump_clock: MockClock) -> None:
    """Outputs of an earlier epoch, of an unknown request, and of a request that has ended."""
    world = World(MockSettings(step_ms=10))
    async with world.running():
        ended = await world.submit()
        await ended.done.wait()
        stream = await world.submit(max_tokens=10)
        await world.until(lambda: len(stream.tokens) == 3)
        wrong = (TokenDelta(1, "wrong"),)
        await world.batcher_spec.ref.tell(
            Produced(
                (
                    Output((stream.request.id, 0), wrong),
                    Output((stream.request.id, 99), wrong, "stop", 1),
                    Output(("nobody", 1), wrong),
                    Output((ended.request.id, 1), wrong, "stop", 1),
                ),
                (((stream.request.id, 0), Odd("odd")), (("nobody", 1), Odd("odd"))),
            )
        )
    assert codes(world) == ["length", "length"]
    assert world.metrics.worker_errors == 0


async def test_error_without_a_stream_code_becomes_backend_failed(autojump_clock: MockClock) -> None:
    world = World(MockSettings(step_ms=10))
    async with world.running():
        stream = await world.submit(max_tokens=100)
        await world.until(lambda: len(stream.tokens) == 3)
        [key] = world.batcher._running
        world.backend.evict(key)
        await world.batcher_spec.ref.tell(Produced(failed=((key, Odd("odd")),)))
    assert isinstance(stream.end, Failed)
    assert (stream.end.code, stream.end.message) == ("BACKEND_FAILED", "odd")
