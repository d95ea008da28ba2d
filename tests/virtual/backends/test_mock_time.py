"""The mock's time model, on a virtual clock."""

import math

import pytest
import trio
import trio.testing

from llmactors.backends.base import Job
from llmactors.backends.mock.backend import MockBackend, MockCrash, MockSettings
from llmactors.messages import GenerateRequest


async def admit(backend: MockBackend, *names: str, prompt: str = "p", max_tokens: int = 3) -> None:
    for name in names:
        request = GenerateRequest(id=name, model="mock", prompt=prompt, max_tokens=max_tokens)
        await backend.admit(Job((name, 1), request))


async def timed_step(backend: MockBackend) -> tuple[float, list[str]]:
    """Returns the milliseconds until a step made a token, and the sequences that got one."""
    began = trio.current_time()
    while not (outputs := await backend.step()):
        pass
    return round((trio.current_time() - began) * 1000, 6), [output.key[0] for output in outputs]


async def test_step_takes_longer_with_more_sequences(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20, step_ms_per_sequence=0.5))
    await admit(backend, "a")
    assert await timed_step(backend) == (20.5, ["a"])
    await admit(backend, "b", "c")
    assert await timed_step(backend) == (21.5, ["a", "b", "c"])


async def test_prefill_delays_only_the_first_token(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20, prefill_ms=50))
    began = trio.current_time()
    await admit(backend, "a", "b")
    assert trio.current_time() == began
    assert await timed_step(backend) == (70, ["a", "b"])
    assert await timed_step(backend) == (20, ["a", "b"])


async def test_sequence_evicted_in_its_prefill_delays_nobody(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(slots=1, prefill_ms=60_000))
    await admit(backend, "a")
    began = trio.current_time()
    assert await backend.step() == []
    assert trio.current_time() - began < 0.1


async def test_decoding_does_not_wait_for_a_prefill(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20, prefill_ms=50))
    await admit(backend, "a", max_tokens=9)
    await timed_step(backend)
    await admit(backend, "b")
    assert [await timed_step(backend) for _ in range(4)] == [
        (20, ["a"]),
        (20, ["a"]),
        (20, ["a"]),
        (20, ["a", "b"]),
    ]


async def test_step_without_cost_lets_other_tasks_run(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend()
    await admit(backend, "a")
    began = trio.current_time()
    with trio.testing.assert_checkpoints():
        await backend.step()
    assert trio.current_time() == began


async def test_slow_token_slows_only_its_step(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20, slow_at=2, slow_ms=1000))
    await admit(backend, "a")
    assert [(await timed_step(backend))[0] for _ in range(3)] == [20, 1020, 20]


async def test_hang_lasts_until_cancelled_and_fails_the_check(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(hang_at=2, crash_prompt="sick"))
    await admit(backend, "a", prompt="a sick one")
    await backend.step()
    with trio.move_on_after(86_400) as scope:
        await backend.step()
    assert scope.cancelled_caught
    with pytest.raises(MockCrash, match="hang at token 2"):
        await backend.check()


async def test_cancelled_step_has_made_nothing(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20))
    await admit(backend, "a")
    undisturbed = MockBackend()
    await admit(undisturbed, "a")
    with trio.move_on_after(0.01):
        await backend.step()
    assert await backend.step() == await undisturbed.step()


async def test_sequence_evicted_during_a_step_gets_nothing(autojump_clock: trio.testing.MockClock) -> None:
    backend = MockBackend(MockSettings(step_ms=20))
    await admit(backend, "a", "b")

    async def evict() -> None:
        await trio.sleep(0.01)
        backend.evict(("a", 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(evict)
        assert await timed_step(backend) == (20, ["b"])


@pytest.mark.parametrize("sequences", [1, 64])
async def test_tokens_per_second_follow_from_the_settings(
    sequences: int, autojump_clock: trio.testing.MockClock
) -> None:
    backend = MockBackend(MockSettings(step_ms=20))
    await admit(backend, *map(str, range(sequences)), max_tokens=50)
    began = trio.current_time()
    tokens = sum([len(await backend.step()) for _ in range(50)])
    assert math.isclose(tokens / (trio.current_time() - began), sequences * 50)
