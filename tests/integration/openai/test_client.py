"""The official `openai` client gets what it expects: the sync client, and the async client on Trio."""

from typing import Any

import openai
import pytest
import trio

from llmactors.backends.mock.oracle import mock_text
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = [
    pytest.mark.integration,
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

MESSAGES: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}]


def chat_text(max_tokens: int, seed: int | None = None) -> str:
    messages = tuple(ChatMessage(each["role"], each["content"]) for each in MESSAGES)
    return mock_text(GenerateRequest("", "mock", "", messages=messages, max_tokens=max_tokens, seed=seed))


def text(prompt: str, max_tokens: int, seed: int | None = None) -> str:
    return mock_text(GenerateRequest("", "mock", prompt, max_tokens=max_tokens, seed=seed))


async def test_chat_answer_has_text_and_usage(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=12)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", chat_text(12))
    assert choice.finish_reason == "length"
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


async def test_chat_stream_has_text_and_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="mock", messages=MESSAGES, max_completion_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not any(chunk.choices[0].delta.role for chunk in chunks[1:-1])
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == chat_text(12)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * 12 + ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


async def test_logprobs_are_parsed_by_the_client(client: openai.AsyncOpenAI) -> None:
    ask: dict[str, Any] = {"model": "mock", "messages": MESSAGES, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}
    [choice] = (await client.chat.completions.create(**ask)).choices
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert "".join(each.token for each in content) == choice.message.content
    assert all(len(each.top_logprobs) == 2 for each in content)
    stream = await client.chat.completions.create(**ask, stream=True)
    streamed = [chunk.choices[0].logprobs async for chunk in stream]
    assert [one for each in streamed if each is not None for one in each.content or []] == content
    old = await client.completions.create(model="mock", prompt="hi", max_tokens=5, logprobs=3)
    scored = old.choices[0].logprobs
    assert scored is not None
    assert scored.tokens is not None
    assert scored.text_offset is not None
    assert "".join(scored.tokens) == old.choices[0].text
    assert scored.text_offset[1] == len(scored.tokens[0])


async def test_stream_has_usage_only_on_request(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=3, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
async def test_choices_of_one_seed_differ_and_repeat(client: openai.AsyncOpenAI, stream: bool) -> None:
    expected = [chat_text(5, seed) for seed in (7, 8, 9)]
    if not stream:
        answer = await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=5, n=3, seed=7)
        assert [choice.message.content for choice in answer.choices] == expected
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 15
        return
    texts = ["", "", ""]
    ends = []
    chunks = await client.chat.completions.create(
        model="mock", messages=MESSAGES, max_tokens=5, n=3, seed=7, stream=True
    )
    async for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.finish_reason] if choice.finish_reason else []
    assert texts == expected
    assert ends == ["length"] * 3


async def test_completions_of_one_prompt_and_of_several(client: openai.AsyncOpenAI) -> None:
    one = await client.completions.create(model="mock", prompt="once", max_tokens=4)
    assert (one.choices[0].text, one.choices[0].finish_reason) == (text("once", 4), "length")
    several = await client.completions.create(model="mock", prompt=["a", "b"], max_tokens=4)
    assert [choice.text for choice in several.choices] == [text("a", 4), text("b", 4)]
    assert [choice.index for choice in several.choices] == [0, 1]
    assert one.object == "text_completion"


async def test_completion_stream_has_the_text(client: openai.AsyncOpenAI) -> None:
    stream = await client.completions.create(model="mock", prompt="once", max_tokens=6, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == text("once", 6)
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_stop_string_ends_the_answer(client: openai.AsyncOpenAI) -> None:
    whole = chat_text(20)
    stop = whole[30:36]
    answer = await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=20, stop=stop)
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


async def test_models_are_listed_and_retrieved(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["mock"]
    assert (await client.models.retrieve("mock")).id == "mock"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_errors_raise_the_classes_of_the_openai_client(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="other", messages=MESSAGES)
    assert missing.value.type == "not_found_error"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="mock", messages=MESSAGES, modalities=["audio"])
    assert (refused.value.param, refused.value.type) == ("modalities", "invalid_request_error")
    assert "`modalities` is not served here" in refused.value.message


async def test_wrong_key_raises_authentication_error() -> None:
    async with local_node(mock_model(), api_key="sesame") as node:
        for key in ("wrong", "sesame"):
            async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key=key, max_retries=0) as client:
                if key == "sesame":
                    await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=1)
                else:
                    with pytest.raises(openai.AuthenticationError):
                        await client.models.list()


async def test_client_retries_by_itself_after_retry_after() -> None:
    async with (
        local_node(mock_model("step_ms=1"), rate_limit="1/0.2s") as node,
        openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=4) as client,
    ):
        for _ in range(3):
            await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=1)
        assert 'llm_gateway_errors_total{code="RATE_LIMITED"}' in (await node.client.get("/metrics")).text


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_frees_the_slot_at_once(node: LocalNode, client: openai.AsyncOpenAI, stream: bool) -> None:
    async def ask() -> None:
        answer: Any = await client.chat.completions.create(
            model="mock", messages=MESSAGES, max_tokens=5000, n=2, stream=stream
        )
        async for _ in answer:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_until(lambda: "2 running" in repr(node.node.ledger))
        nursery.cancel_scope.cancel(reason="the client goes")
    await wait_until(lambda: "0 running" in repr(node.node.ledger), within_s=1.0)


async def test_unfinished_answer_ends_with_its_error() -> None:
    async with (
        local_node(mock_model("step_ms=1,crash_at=3,crash_prompt=sky")) as node,
        openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client,
    ):
        seen: list[str] = []

        async def read() -> None:
            stream = await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=9, stream=True)
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the error counts

        with pytest.raises(openai.APIError) as broken:
            await read()
        assert "".join(seen) == chat_text(2)
        assert broken.value.code == "poisoned"
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=9)


async def test_sync_client_reads_answer_and_stream(node: LocalNode) -> None:
    def ask() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client:
            whole = client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=4)
            stream = client.chat.completions.create(model="mock", messages=MESSAGES, max_tokens=4, stream=True)
            return str(whole.choices[0].message.content), "".join(
                chunk.choices[0].delta.content or "" for chunk in stream
            )

    assert await trio.to_thread.run_sync(ask) == (chat_text(4), chat_text(4))
