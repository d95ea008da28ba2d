"""A crash at any token of an answer with log probabilities: those of the logged tokens come from the log."""

import pytest
from trio.testing import MockClock

from llmactors.backends.mock.backend import MockSettings
from llmactors.backends.mock.oracle import mock_tokens
from tests.virtual.batcher.conftest import World, codes


@pytest.mark.parametrize("token", range(1, 9))
async def test_crash_at_any_token_keeps_the_logprobs(autojump_clock: MockClock, token: int) -> None:
    world = World(MockSettings(step_ms=1, crash_at=token, crash_times=1))
    async with world.running():
        for number, stop in enumerate(((), ("river",))):
            await world.submit(f"prompt {number}", 8, top_logprobs=3, stop=stop)
    assert world.faults.faults == 1
    for stream in world.streams:
        assert tuple(stream.tokens) == mock_tokens(stream.request)[0]
        assert all(delta.extra is not None and delta.extra.logprob is not None for delta in stream.tokens)
    assert set(codes(world)) <= {"stop", "length"}
