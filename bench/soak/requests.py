"""Clients of the HTTP routes. Each call makes one request or a few, and judges every answer."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import trio

from bench.soak.asking import CUTS, PATIENCE_S, Asker, error_code, events
from bench.soak.tally import POISONED
from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.http.client import WholeResponse
from llmactors.http.client_response import ClientResponse

CRASHING = "crash"
"""A prompt with this word crashes the simulated model."""
Client = Callable[[Asker], Awaitable[None]]


def text_of(prompt: str, max_tokens: int) -> str:
    """The simulated model's answer to a prompt."""
    base = sequence_hash(prompt, None)
    return "".join(token_of(base, seq).text for seq in range(1, max_tokens + 1))


def _new_prompt(asker: Asker) -> tuple[str, int]:
    return f"soak {asker.rng.getrandbits(48):x}", asker.rng.randint(4, 40)


def _chat(prompt: str, max_tokens: int) -> dict[str, Any]:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}


def _new_key(asker: Asker) -> dict[str, str]:
    return {"idempotency-key": f"key-{asker.rng.getrandbits(64):x}"}


async def chat_stream(asker: Asker) -> None:
    """A stream of OpenAI's routes. With its idempotency key the client asks again after a cut."""
    kind = "chat streams"
    prompt, max_tokens = _new_prompt(asker)
    body = {**_chat(prompt, max_tokens), "stream": True}
    key = _new_key(asker)
    answer = text_of(f"user: {prompt}", max_tokens)
    with trio.move_on_after(PATIENCE_S):
        while True:
            texts: list[str] = []
            try:
                async with await asker.open("POST", "/v1/chat/completions", body, key) as response:
                    if response.status == 200:
                        if await _read_chunks(response, texts):
                            asker.tally.judge_text(kind, "".join(texts), answer, whole=True)
                            return
                        asker.tally.cuts[kind] += 1
                    else:
                        await _note_refusal(asker, kind, response)
            except CUTS:
                asker.tally.cuts[kind] += 1
            if not answer.startswith("".join(texts)):
                asker.tally.complain(asker.tally.wrong, kind, f"{texts} instead of {answer!r}")
                return
            await trio.sleep(asker.rng.uniform(0.1, 1.0))
    asker.tally.complain(asker.tally.lost, kind, f"{prompt!r} got no answer")


async def _read_chunks(response: ClientResponse, texts: list[str]) -> bool:
    """Read a stream of chunks into `texts`; return whether the stream was complete."""
    async with contextlib.aclosing(events(response)) as stream:
        async for event in stream:
            if event.data == b"[DONE]":
                return True
            chunk = msgspec.json.decode(event.data)
            if "error" in chunk:
                return False
            texts += [choice["delta"].get("content") or "" for choice in chunk["choices"]]
    return False


async def _note_refusal(asker: Asker, kind: str, response: ClientResponse) -> None:
    with trio.fail_after(10):
        asker.tally.refuse(kind, response.status, error_code(await response.read()))


async def whole_answer(asker: Asker) -> None:
    """An answer in one JSON object, asked for twice at the same time with one idempotency key."""
    kind = "JSON answers"
    prompt, max_tokens = _new_prompt(asker)
    path, body, answer = asker.rng.choice(
        [
            ("/v1/generate", {"prompt": prompt, "max_tokens": max_tokens}, text_of(prompt, max_tokens)),
            (
                "/v1/completions",
                {"model": "mock", "prompt": prompt, "max_tokens": max_tokens},
                text_of(prompt, max_tokens),
            ),
            ("/v1/chat/completions", _chat(prompt, max_tokens), text_of(f"user: {prompt}", max_tokens)),
        ]
    )
    key = _new_key(asker)
    ids: set[str] = set()

    async def ask() -> None:
        found = await asker.whole(kind, "POST", path, body, key)
        if found is None or found.status != 200:
            asker.tally.complain(asker.tally.lost, kind, f"{prompt!r} got {found and found.status}")
            return
        ids.add(found.headers["x-request-id"])
        asker.tally.judge_text(kind, _text_in(msgspec.json.decode(found.body)), answer, whole=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    if len(ids) > 1:
        asker.tally.complain(asker.tally.wrong, kind, f"one idempotency key got the requests {ids}")


def _text_in(answer: Mapping[str, Any]) -> str:
    """The text of a native answer, a completion or a chat completion."""
    [choice] = answer.get("choices", [answer])
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    assert isinstance(text, str)
    return text


async def cancelled(asker: Asker) -> None:
    """A native stream that its client cancels after some tokens, and reads to its end."""
    kind = "cancelled streams"
    prompt, max_tokens = _new_prompt(asker)
    cancel_at = asker.rng.randint(1, 8)
    body = {"prompt": prompt, "max_tokens": max_tokens + 20, "stream": True}
    texts: list[str] = []
    try:
        async with await asker.open("POST", "/v1/generate", body) as response:
            if response.status != 200:
                await _note_refusal(asker, kind, response)
                return
            async with contextlib.aclosing(events(response)) as stream:
                async for event in stream:
                    if event.name == "queued":
                        continue
                    found = msgspec.json.decode(event.data)
                    if event.name != "token":
                        break
                    texts.append(found["text"])
                    if len(texts) == cancel_at:
                        await asker.whole(kind, "DELETE", f"/v1/streams/{found['id']}")
                else:
                    asker.tally.cuts[kind] += 1
                    return
    except CUTS:
        asker.tally.cuts[kind] += 1
        return
    if event.name == "error" and event.id is None:
        asker.tally.cuts[kind] += 1
    elif event.name == "error":
        asker.tally.refuse(kind, 500, found["error"]["code"])
    elif found["seq"] != len(texts) + 1 or found["finish_reason"] not in {"cancelled", "length"}:
        asker.tally.complain(asker.tally.wrong, kind, f"{found} after {len(texts)} tokens")
    else:
        asker.tally.judge_text(kind, "".join(texts), text_of(prompt, max_tokens + 20), whole=False)


async def abandoned(asker: Asker) -> None:
    """A request of any route whose client leaves before the answer is complete."""
    kind = "abandoned requests"
    prompt, max_tokens = _new_prompt(asker)
    path, body = asker.rng.choice(
        [
            ("/v1/generate", {"prompt": prompt, "max_tokens": max_tokens + 20, "stream": True}),
            ("/v1/generate", {"prompt": prompt, "max_tokens": max_tokens + 20}),
            ("/v1/chat/completions", {**_chat(prompt, max_tokens + 20), "stream": True}),
            ("/v1/responses", {"model": "mock", "input": prompt, "max_output_tokens": max_tokens + 20, "stream": True}),
        ]
    )
    with contextlib.suppress(*CUTS), trio.move_on_after(asker.rng.uniform(0.05, 0.6)):
        async with await asker.open("POST", path, body) as response:
            while await response.receive():
                pass
    asker.tally.right[kind] += 1


async def background(asker: Asker) -> None:
    """A response in the background, which its client follows, asks for again and again, or cancels."""
    kind = "background responses"
    prompt, max_tokens = _new_prompt(asker)
    body = {"model": "mock", "input": prompt, "max_output_tokens": max_tokens, "background": True}
    created = await asker.whole(kind, "POST", "/v1/responses", body, _new_key(asker))
    if created is None or created.status != 200:
        asker.tally.complain(asker.tally.lost, kind, f"{prompt!r} got {created and created.status}")
        return
    path = f"/v1/responses/{msgspec.json.decode(created.body)['id']}"
    cancels = asker.rng.random() < 0.2
    if cancels:
        await asker.whole(kind, "POST", f"{path}/cancel")
    answer = text_of(f"user: {prompt}", max_tokens)
    with trio.move_on_after(PATIENCE_S):
        while True:
            found = await asker.whole(kind, "GET", path)
            if found is None or found.status != 200:
                break
            shown = msgspec.json.decode(found.body)
            if shown["status"] not in {"queued", "in_progress"}:
                _judge_response(asker, kind, shown, answer, cancels=cancels)
                return
            await trio.sleep(asker.rng.uniform(0.2, 0.6))
    asker.tally.complain(asker.tally.lost, kind, f"{path} did not end")


def _judge_response(asker: Asker, kind: str, shown: Mapping[str, Any], answer: str, *, cancels: bool) -> None:
    text = "".join(part["text"] for item in shown["output"] for part in item.get("content", ()))
    if shown["status"] == "failed":
        asker.tally.refuse(kind, 500, str(shown["error"]["code"]))
    elif shown["status"] == "cancelled" and not cancels:
        asker.tally.complain(asker.tally.wrong, kind, f"{shown['id']} was cancelled by nobody")
    else:
        asker.tally.judge_text(kind, text, answer, whole=shown["status"] != "cancelled")


async def crashing(asker: Asker) -> None:
    """A request that crashes every model that takes it, and must be convicted of that."""
    kind = "crashing requests"
    body = {"prompt": f"{CRASHING} {asker.rng.getrandbits(48):x}", "max_tokens": 8}
    key = _new_key(asker)
    with trio.move_on_after(2 * PATIENCE_S):
        while True:
            with contextlib.suppress(*CUTS):
                async with await asker.open("POST", "/v1/generate", body, key) as response:
                    with trio.fail_after(PATIENCE_S):
                        answer = WholeResponse(response.status, response.headers, await response.read())
                if error_code(answer.body) == POISONED:
                    asker.tally.convicted += 1
                    return
                if answer.status not in {429, 503}:
                    break
            await trio.sleep(asker.rng.uniform(0.5, 1.5))
    asker.tally.complain(asker.tally.wrong, kind, f"{body['prompt']!r} was not convicted")
