"""What a reader makes of the events or the body of an answer, in each API. Pure.

A reader here joins texts and parses JSON, and knows nothing of how the server makes either.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from tests.simulation.content.cases import Api

Event = dict[str, Any]


@attrs.define
class Call:
    """A call of a tool."""

    id: str
    name: str
    arguments: str = ""


@attrs.define
class Answer:
    """One choice, as its reader has it."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = attrs.field(factory=list)
    logprobs: list[tuple[str, float]] | None = None
    """The text and the log probability of each token, where the client gets them."""
    reason: str = ""
    tokens: int | None = None
    """How many tokens the answer has, where the client is told."""
    vectors: list[list[float]] = attrs.field(factory=list)


@attrs.define
class CallAnswers:
    """All choices of one call."""

    choices: list[Answer]
    tokens: int | None = None
    """How many tokens all choices have together, where the client is told."""


def read_stream(api: Api, lanes: Mapping[str, Sequence[Event]]) -> CallAnswers:
    """The answers in the events of a stream, by the choices."""
    if api in {"chat", "completions"}:
        read = _chat_choice if api == "chat" else _completion_choice
        choices = [read(lanes[name]) for name in sorted(lanes) if name != "usage"]
        usage = lanes["usage"][0]["usage"] if "usage" in lanes else {}
        return CallAnswers(choices, usage.get("completion_tokens"))
    [events] = lanes.values()
    answer = _STREAMS[api](events)
    return CallAnswers([answer], answer.tokens)


def read_whole(api: Api, body: Any) -> CallAnswers:
    """The answers in the body of a whole answer."""
    return _BODIES[api](body)


def _chat_choice(events: Iterable[Event]) -> Answer:
    answer = Answer()
    for event in events:
        [choice] = event["choices"]
        delta = choice["delta"]
        answer.text += delta.get("content") or ""
        answer.reasoning += delta.get("reasoning_content") or ""
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                assert part["index"] == len(answer.calls), f"call {part['index']} begins after {len(answer.calls)}"
                answer.calls.append(Call(part["id"], part["function"]["name"]))
            answer.calls[part["index"]].arguments += part["function"].get("arguments", "")
        _add_logprobs(answer, choice["logprobs"])
        answer.reason = choice["finish_reason"] or answer.reason
    return answer


def _completion_choice(events: Iterable[Event]) -> Answer:
    answer = Answer()
    for event in events:
        [choice] = event["choices"]
        answer.text += choice["text"]
        _add_logprobs(answer, choice["logprobs"])
        answer.reason = choice["finish_reason"] or answer.reason
    return answer


def _add_logprobs(answer: Answer, found: Any) -> None:
    if found is None:
        return
    if "content" in found:
        pairs = [(each["token"], each["logprob"]) for each in found["content"]]
    else:
        pairs = list(zip(found["tokens"], found["token_logprobs"], strict=True))
    answer.logprobs = [*(answer.logprobs or ()), *pairs]


def _native_stream(events: Sequence[Event]) -> Answer:
    *tokens, end = events
    assert [each["seq"] for each in tokens] == list(range(1, len(tokens) + 1)), "the numbers of the events have a gap"
    text = "".join(each["text"] for each in tokens)
    return Answer(text, reason=end["finish_reason"], tokens=end["usage"]["completion_tokens"])


def _response_stream(events: Sequence[Event]) -> Answer:
    assert [each["sequence_number"] for each in events] == list(range(len(events))), "the numbers have a gap"
    deltas: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            deltas[event["output_index"]] = deltas.get(event["output_index"], "") + event["delta"]
    response = events[-1]["response"]
    for index, item in enumerate(response["output"]):
        text = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert deltas.get(index, "") == text, "the deltas of an item are not its text"
    return _response(response)


def _response(response: Any) -> Answer:
    answer = Answer(reason=response["status"], tokens=response["usage"]["output_tokens"])
    for item in response["output"]:
        match item["type"]:
            case "message":
                answer.text += "".join(part["text"] for part in item["content"])
            case "function_call":
                answer.calls.append(Call(item["call_id"], item["name"], item["arguments"]))
            case "reasoning":
                answer.reasoning += "".join(part["text"] for part in item["content"])
    return answer


def _message_stream(events: Sequence[Event]) -> Answer:
    answer = Answer()
    open_block = -1
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == open_block + 1, "a block begins out of order"
                open_block += 1
                block = event["content_block"]
                if block["type"] == "tool_use":
                    answer.calls.append(Call(block["id"], block["name"]))
            case "content_block_delta":
                assert event["index"] == open_block, "a delta of a block that is not open"
                answer.text += event["delta"].get("text", "")
                answer.reasoning += event["delta"].get("thinking", "")
                if "partial_json" in event["delta"]:
                    answer.calls[-1].arguments += event["delta"]["partial_json"]
            case "message_delta":
                answer.reason = event["delta"]["stop_reason"]
                answer.tokens = event["usage"]["output_tokens"]
    return answer


def _whole_choices(body: Any) -> CallAnswers:
    choices = []
    for number, choice in enumerate(body["choices"]):
        assert choice["index"] == number, "the choices are out of order"
        answer = Answer(choice.get("text", ""), reason=choice["finish_reason"])
        if (message := choice.get("message")) is not None:
            answer.text = message["content"] or ""
            answer.reasoning = message.get("reasoning_content") or ""
            answer.calls = [
                Call(each["id"], each["function"]["name"], each["function"]["arguments"])
                for each in message.get("tool_calls") or ()
            ]
        _add_logprobs(answer, choice["logprobs"])
        choices.append(answer)
    return CallAnswers(choices, body["usage"]["completion_tokens"])


def _whole_message(body: Any) -> CallAnswers:
    answer = Answer(reason=body["stop_reason"], tokens=body["usage"]["output_tokens"])
    for block in body["content"]:
        match block["type"]:
            case "text":
                answer.text += block["text"]
            case "thinking":
                answer.reasoning += block["thinking"]
            case "tool_use":
                answer.calls.append(Call(block["id"], block["name"], json.dumps(block["input"])))
    return CallAnswers([answer], answer.tokens)


def _whole_native(body: Any) -> CallAnswers:
    tokens = body["usage"]["completion_tokens"]
    return CallAnswers([Answer(body["text"], reason=body["finish_reason"], tokens=tokens)], tokens)


def _whole_response(body: Any) -> CallAnswers:
    answer = _response(body)
    return CallAnswers([answer], answer.tokens)


def _vectors(body: Any) -> CallAnswers:
    return CallAnswers([Answer(vectors=[each["embedding"]], reason="stop") for each in body["data"]])


_STREAMS: Mapping[str, Callable[[Sequence[Event]], Answer]] = {
    "native": _native_stream,
    "responses": _response_stream,
    "messages": _message_stream,
}
_BODIES: Mapping[str, Callable[[Any], CallAnswers]] = {
    "native": _whole_native,
    "chat": _whole_choices,
    "completions": _whole_choices,
    "responses": _whole_response,
    "messages": _whole_message,
    "embeddings": _vectors,
}
