"""The backend dies at every token of answers with calls of tools, and clients see the deltas of undisturbed answers."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import structlog
from trio.testing import MockClock

from llmactors.backends.base import Backend
from llmactors.backends.mock.backend import MockBackend, MockSettings
from llmactors.backends.mock.oracle import mock_tokens
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer
from llmactors.ledger import LogSlice
from llmactors.messages import Finished, GenerateRequest, TokenDelta, ToolUse
from llmactors.testing.schemas.tool_sets import TOOL_SETS
from llmactors.tool_calls.constraint import call_constraint
from llmactors.tool_calls.functions import definitions_of
from tests.virtual.batcher.conftest import World

MOST = 60
"""More tokens than any of the answers has."""


@attrs.define
class CrashingOnce:
    """Makes backends, of which number k crashes once, at token k of the request with this number."""

    made: int = 0

    def __call__(self) -> Backend:
        self.made += 1
        return MockBackend(MockSettings(step_ms=1, crash_at=self.made, crash_prompt=f"crash {self.made}."))


def rendered(request: GenerateRequest, tokens: Sequence[TokenDelta], end: Finished) -> bytes:
    """The stream of a client, one token at a time."""
    renderer = ChunkRenderer(AnswerForm(chat=True), "id", request)
    chunks = [renderer.render(LogSlice(seq, (token,))) for seq, token in enumerate(tokens, 1)]
    return b"".join([*chunks, renderer.render(LogSlice(len(tokens) + 1, (), end))])


@pytest.mark.parametrize("name", TOOL_SETS)
async def test_backend_crash_at_any_token_leaves_calls_alone(autojump_clock: MockClock, name: str) -> None:
    tools = TOOL_SETS[name]
    use = ToolUse(definitions_of(tools.functions), tools.form)
    constraint = call_constraint(tools.form, tools.functions, tools.choice)
    fields: dict[str, Any] = {"max_tokens": MOST, "tools": use, "constraint": constraint, "seed": None}
    world = World(make=CrashingOnce())
    calls = 0
    with structlog.testing.capture_logs():
        async with world.running():
            for number in range(1, MOST + 1):
                stream = await world.submit(f"crash {number}.", **fields)
                await stream.done.wait()
                assert isinstance(stream.end, Finished)
                whole, reason = mock_tokens(stream.request)
                assert rendered(stream.request, stream.tokens, stream.end) == rendered(
                    stream.request, whole, Finished(reason, stream.end.usage)
                )
                calls += b'"tool_calls"' in rendered(stream.request, whole, stream.end)
                if len(whole) < number:
                    break
    assert world.incarnations[1] > 1
    assert calls
