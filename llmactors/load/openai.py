"""The check of answers from a server that speaks OpenAI's HTTP. Pure.

A right stream has text in as many pieces as the server likes, a finish reason, and `[DONE]`. A piece of text need not
be one token: where the server sends its usage, the usage says how many tokens there are; else each piece counts as one.
"""

from collections import Counter
from typing import Any

import msgspec

from llmactors.load.http_recording import HttpReplay
from llmactors.load.native import check_text
from llmactors.load.plan import Api, Check, Plan
from llmactors.load.recording import Malformed, Recording
from llmactors.load.token_times import TokenTimes


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: dict[str, Any] | str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def read_stream(plan: Plan, recording: Recording, replay: HttpReplay) -> TokenTimes:
    """Checks a stream of chunks. Raises `Malformed`."""
    texts: list[str] = []
    times: list[float] = []
    per_chunk: Counter[int] = Counter()
    reported: int | None = None
    reason: str | None = None
    done = False
    for event, time, number in replay.events():
        if done:
            raise Malformed("event_after_end", repr(event.data[:80]))
        if event.data == b"[DONE]":
            done = True
            continue
        chunk = _parse(event.data)
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            reported = chunk.usage.completion_tokens
        for choice in chunk.choices:
            text = _text(choice)
            if text:
                if reason is not None:
                    raise Malformed("event_after_end", f"{text[:80]!r} after the finish reason")
                per_chunk[number] += 1
                times.append(time)
                texts.append(text)
            reason = choice.finish_reason or reason
    if not done or reason is None:
        raise Malformed("no_end", f"after {len(times)} pieces of text, finish reason {reason}")
    tokens = len(times) if reported is None else reported
    _check(plan, recording, "".join(texts), tokens)
    if plan.check is Check.MOCK and len(times) != plan.max_tokens:
        raise Malformed("wrong_length", f"{len(times)} pieces of text")
    return TokenTimes(tokens, times, list(per_chunk.values()))


def read_whole(plan: Plan, recording: Recording, replay: HttpReplay) -> TokenTimes:
    """Checks an answer in one JSON object. Raises `Malformed`."""
    chunk = _parse(replay.body)
    if not chunk.choices or chunk.choices[0].finish_reason is None or chunk.usage is None:
        raise Malformed("malformed_event", repr(replay.body[:200]))
    tokens = chunk.usage.completion_tokens or 0
    _check(plan, recording, _text(chunk.choices[0]), tokens)
    return TokenTimes(tokens, [], [])


def _check(plan: Plan, recording: Recording, text: str, tokens: int) -> None:
    prompt = plan.prompt_of(recording.index)
    # The simulated backend has no chat template, and reads a conversation like this.
    check_text(plan, f"user: {prompt}" if plan.api is Api.CHAT else prompt, recording.index, text)
    if not tokens or (plan.check is Check.MOCK and tokens != plan.max_tokens):
        raise Malformed("wrong_length", f"{tokens} tokens")


def _text(choice: _Choice) -> str:
    said = choice.delta or choice.message
    if said is None:
        return choice.text or ""
    return (said.reasoning_content or "") + (said.content or "")


def _parse(data: bytes) -> _Chunk:
    try:
        chunk = _decode(data)
    except (UnicodeError, msgspec.DecodeError) as error:
        raise Malformed("malformed_event", f"{data[:200]!r}: {error}") from None
    if chunk.error is not None:
        code = chunk.error.get("code") if isinstance(chunk.error, dict) else None
        raise Malformed("stream_error", str(chunk.error), code=str(code or ""))
    return chunk
