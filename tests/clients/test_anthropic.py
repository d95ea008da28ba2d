"""Anthropic's own Python library, against a node with a simulated model: `pip install anthropic`."""

import hashlib
import importlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = [
    pytest.mark.clients,
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

TOOL = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
    },
}
ASK: dict[str, Any] = {"model": "mock", "max_tokens": 200, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=1")) as running:
        yield running


@pytest.fixture(scope="session")
def anthropic() -> Any:
    """The library, which the extra `dev` does not install."""
    try:
        return importlib.import_module("anthropic")
    except ModuleNotFoundError:
        pytest.fail("anthropic is not installed: pip install anthropic")


@pytest.fixture
async def client(node: LocalNode, anthropic: Any) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=node.url, api_key="none", max_retries=0) as made:
        yield made


async def both(client: Any, asked: dict[str, Any]) -> Any:
    """The whole message, after a check that the stream gives the same."""
    # The same key is the same request, so that the ids are equal too.
    keyed = asked | {"extra_headers": {"Idempotency-Key": hashlib.sha256(repr(asked).encode()).hexdigest()}}
    message = await client.messages.create(**keyed)
    async with client.messages.stream(**keyed) as stream:
        async for _ in stream:
            pass
        streamed = await stream.get_final_message()
    assert streamed.to_dict(exclude_none=True) == message.to_dict(exclude_none=True)
    return message


async def test_text(client: Any) -> None:
    message = await both(client, ASK | {"max_tokens": 5, "system": "be good"})
    assert [block.type for block in message.content] == ["text"]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)


async def test_tools_in_a_conversation(client: Any) -> None:
    """A forced call, its result, and the next answer."""
    message = await both(client, ASK | {"tools": [TOOL], "tool_choice": {"type": "any"}})
    assert message.stop_reason == "tool_use"
    assert {block.type for block in message.content} == {"tool_use"}
    assert all(block.input["city"] in {"Oslo", "Rome"} for block in message.content)
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "sun"} for block in message.content]
    turns = [*ASK["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    following = ASK | {"messages": turns, "tools": [TOOL], "tool_choice": {"type": "none"}, "max_tokens": 5}
    assert (await both(client, following)).stop_reason == "max_tokens"


async def test_stop_sequence(client: Any) -> None:
    word = (await client.messages.create(**ASK)).content[0].text.split()[3]
    message = await both(client, ASK | {"stop_sequences": [word]})
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", word)


async def test_counting_and_models(client: Any) -> None:
    counted = await client.messages.count_tokens(model="mock", messages=ASK["messages"], tools=[TOOL])
    assert counted.input_tokens > 0
    assert [model.id async for model in client.models.list()] == ["mock"]
    assert (await client.models.retrieve("mock")).display_name == "mock"


async def test_errors_have_their_classes(client: Any, anthropic: Any) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await client.messages.create(**ASK | {"model": "other"})
    assert caught.value.request_id.startswith("req_")
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await client.messages.create(**ASK | {"max_tokens": 0})
    async with local_node(mock_model(), api_key="secret") as node:
        wrong = client.with_options(base_url=node.url)
        with pytest.raises(anthropic.AuthenticationError):
            await wrong.messages.create(**ASK)
        right = await client.with_options(base_url=node.url, api_key="secret").messages.create(**ASK)
        assert right.content


async def test_failed_stream_raises(client: Any, anthropic: Any) -> None:
    async with local_node(mock_model("crash_at=3")) as node:
        stream = await client.with_options(base_url=node.url).messages.create(**ASK, stream=True)
        names = [(await anext(stream)).type for _ in range(4)]
        with pytest.raises(anthropic.APIStatusError) as caught:
            await anext(stream)
    assert names == ["message_start", "content_block_start", "content_block_delta", "content_block_delta"]
    assert caught.value.body["error"]["type"] == "api_error"
