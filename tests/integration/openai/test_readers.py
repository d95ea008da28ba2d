"""Load generators count every token of our streams, wherever TCP splits the bytes."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from llmactors.backends.mock.oracle import mock_text
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.integration.openai.readers import Reader, read_as_guidellm, read_as_vllm_bench

pytestmark = pytest.mark.integration

TOKENS = 40
ASKED: dict[str, Any] = {
    # The requests of `vllm bench serve` and guidellm, including fields that a server ignores.
    "model": "mock",
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "temperature": 0.0,
    "repetition_penalty": 1.0,
    "ignore_eos": True,
    "logprobs": None,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": ASKED
    | {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "max_completion_tokens": TOKENS},
    "/v1/completions": ASKED | {"prompt": "hi", "max_tokens": TOKENS},
}
TEXTS = {
    "/v1/chat/completions": mock_text(
        GenerateRequest("", "mock", "", messages=(ChatMessage("user", "hi"),), max_tokens=TOKENS)
    ),
    "/v1/completions": mock_text(GenerateRequest("", "mock", "hi", max_tokens=TOKENS)),
}


async def reads_of(node: LocalNode, path: str) -> list[bytes]:
    """The results of the reads of one stream from a socket."""
    async with node.client.stream("POST", path, json=BODIES[path]) as answer:
        assert answer.status_code == 200
        return [data async for data in answer.aiter_raw()]


def cut(data: bytes, rng: random.Random, largest: int, *, spaces: bool) -> Iterator[bytes]:
    """Splits `data` into pieces of up to `largest` bytes; without `spaces` no piece begins or ends next to a space."""
    begin = 0
    while begin < len(data):
        end = min(len(data), begin + rng.randint(1, largest))
        while not spaces and end < len(data) and b" " in data[end - 1 : end + 1]:
            end += 1
        yield data[begin:end]
        begin = end


@pytest.mark.parametrize("read", [read_as_vllm_bench, read_as_guidellm])
async def test_load_generators_count_all_tokens_and_the_usage(read: Reader) -> None:
    rng = random.Random(7)
    async with local_node(mock_model("step_ms=1")) as node:
        for path in BODIES:
            reads = await reads_of(node, path)
            whole = b"".join(reads)
            ways = [reads, [whole]]
            # vLLM's reader strips blanks at the ends of a read, which no server can prevent.
            spaces = read is read_as_guidellm
            ways += [
                list(cut(whole, rng, largest, spaces=spaces)) for largest in (1, 2, 7, 100, 1000) for _ in range(3)
            ]
            for way in ways:
                reading = read(way)
                assert "".join(reading.texts) == TEXTS[path]
                assert (len(reading.texts), reading.completion_tokens) == (TOKENS, TOKENS)
                assert reading.done
                assert not reading.error


async def test_unfinished_answer_has_no_end_and_no_usage() -> None:
    async with local_node(mock_model("crash_at=5")) as node:
        reads = await reads_of(node, "/v1/completions")
    for read in (read_as_vllm_bench, read_as_guidellm):
        reading = read(reads)
        assert len(reading.texts) == 4
        assert (reading.done, reading.completion_tokens) == (False, None)
        assert bool(reading.error) is (read is read_as_guidellm)


@pytest.mark.parametrize("read", [read_as_vllm_bench, read_as_guidellm])
@pytest.mark.parametrize("slow_at", [1, 5])
async def test_keep_alive_costs_no_reader_a_token(read: Reader, slow_at: int) -> None:
    """A comment, alone in a read, would cost vLLM's reader the event after it."""
    async with local_node(mock_model(f"step_ms=1,slow_at={slow_at},slow_ms=150"), keep_alive_s=0.02) as node:
        for path in BODIES:
            reads = await reads_of(node, path)
            assert b"".join(reads).count(b"\n\n") == b"".join(reads).count(b"data: ")
            assert b"".join(reads).count(b'"finish_reason":null') > TOKENS
            assert "".join(read(reads).texts) == TEXTS[path]
            assert read(reads).done
