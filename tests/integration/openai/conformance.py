"""A program that uses the official `openai` client against any server: `python conformance.py URL MODEL [WAY…]`.

The program needs only the client and trio, so that it runs with any version of both. The ways are the sync client
(`sync`), and the async client on asyncio (`asyncio`) and on Trio (`trio`); without a way, all of them. All requests use
greedy sampling, since the same request must get the same answer each time.
"""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import trio

QUESTION = "Why is the sky blue?"
TOKENS = 8
DONE = {"completed", "incomplete"}


async def got(value: Any) -> Any:
    """The result of a call of the sync or the async client."""
    return await value if inspect.isawaitable(value) else value


async def listed(stream: Any, most: int | None = None) -> list[Any]:
    """The items of a stream or a page: all, or the first `most`, after which the stream is closed."""
    found: list[Any] = []
    if hasattr(stream, "__aiter__"):
        async for each in stream:
            found.append(each)
            if len(found) == most:
                await stream.close()
                break
        return found
    for each in stream:
        found.append(each)
        if len(found) == most:
            stream.close()
            break
    return found


async def refusal(call: Callable[[], Any], kind: type[openai.APIStatusError]) -> Any:
    """The error that a call raises, which must be of this class."""
    error: openai.APIStatusError | None = None
    try:
        await got(call())
    except kind as raised:
        error = raised
    assert error is not None, f"no {kind.__name__} was raised"
    assert error.request_id, "an error has no request id"
    return error


async def models(client: Any, model: str) -> None:
    assert model in [each.id for each in await listed(client.models.list())]
    assert (await got(client.models.retrieve(model))).id == model
    await refusal(lambda: client.models.retrieve("no-such-model"), openai.NotFoundError)


async def chat(client: Any, model: str) -> None:
    ask = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_completion_tokens": TOKENS,
        "temperature": 0,
    }
    whole = await got(client.chat.completions.create(**ask))
    text = whole.choices[0].message.content
    assert text
    assert whole.choices[0].finish_reason in {"stop", "length"}
    chunks = await listed(
        await got(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    refused = await refusal(lambda: client.chat.completions.create(**ask, modalities=["audio"]), openai.BadRequestError)
    assert refused.param == "modalities"


async def completions(client: Any, model: str) -> None:
    ask = {"model": model, "prompt": "The sky is", "max_tokens": TOKENS, "temperature": 0}
    whole = await got(client.completions.create(**ask))
    chunks = await listed(await got(client.completions.create(**ask, stream=True)))
    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


async def responses(client: Any, model: str) -> None:
    ask = {"model": model, "input": QUESTION, "max_output_tokens": TOKENS, "temperature": 0}
    whole = await got(client.responses.create(**ask, instructions="Be brief.", metadata={"a": "b"}))
    assert whole.output_text
    assert whole.status in DONE
    assert (whole.metadata, whole.instructions) == ({"a": "b"}, "Be brief.")
    assert await got(client.responses.retrieve(whole.id)) == whole
    whole = await got(client.responses.create(**ask))
    events = await listed(await got(client.responses.create(**ask, stream=True)))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert await through_the_helper(client.responses.stream(**ask)) == [event.type for event in events]
    refused = await refusal(
        lambda: client.responses.create(**ask, tools=[{"type": "web_search"}]), openai.BadRequestError
    )
    assert refused.param == "tools"
    await refusal(lambda: client.responses.retrieve("resp_0"), openai.NotFoundError)


async def through_the_helper(manager: Any) -> list[str]:
    """Reads a stream with the client's own helper, which refuses events in a wrong order."""
    if hasattr(manager, "__aenter__"):
        async with manager as stream:
            return [event.type async for event in stream]
    with manager as stream:
        return [event.type for event in stream]


async def resume(client: Any, model: str) -> None:
    """A background response: polled, left and followed again, replayed, cancelled."""
    ask = {"model": model, "input": QUESTION, "temperature": 0, "background": True}
    created = await got(client.responses.create(**ask, max_output_tokens=TOKENS))
    assert created.status in {"queued", "in_progress"}
    while (polled := await got(client.responses.retrieve(created.id))).status not in DONE:
        await pause()
    seen = await listed(await got(client.responses.create(**ask, max_output_tokens=TOKENS, stream=True)), most=8)
    name, last = seen[0].response.id, seen[-1].sequence_number
    rest = await listed(await got(client.responses.retrieve(name, stream=True, starting_after=last)))
    assert rest[-1].response.output_text == polled.output_text
    assert await listed(await got(client.responses.retrieve(name, stream=True))) == seen + rest
    assert await listed(await got(client.responses.retrieve(name, stream=True, starting_after=last))) == rest
    long = await got(client.responses.create(**ask, max_output_tokens=TOKENS * 10))
    assert (await got(client.responses.cancel(long.id))).status in {"cancelled", *DONE}


async def pause() -> None:
    """Sleeps for a moment with the client's event loop."""
    try:
        await asyncio.sleep(0.02)
    except RuntimeError:
        await trio.sleep(0.02)


CHECKS: tuple[Callable[[Any, str], Awaitable[None]], ...] = (models, chat, completions, responses, resume)


async def run_sync(url: str, model: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for check in CHECKS:
            await check(client, model)


async def run_async(url: str, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        for check in CHECKS:
            await check(client, model)


WAYS: dict[str, Callable[[str, str], None]] = {
    "sync": lambda url, model: asyncio.run(run_sync(url, model)),
    "asyncio": lambda url, model: asyncio.run(run_async(url, model)),
    "trio": lambda url, model: trio.run(run_async, url, model),
}


if __name__ == "__main__":
    _, base_url, model_name, *ways = sys.argv
    for way in ways or WAYS:
        WAYS[way](base_url, model_name)
    names = ", ".join(check.__name__ for check in CHECKS)
    sys.stdout.write(f"openai {openai.__version__}: {names}; {', '.join(ways or WAYS)}\n")
