"""The events of a stream, and the whole answer, from the same logs."""

import json
from typing import Any

import attrs
import pytest

from llmactors.errors import BackendFailed
from llmactors.gateway.anthropic.blocks import whole_answer
from llmactors.gateway.anthropic.events import MessageRenderer
from llmactors.ledger import LogSlice
from llmactors.messages import (
    Failed,
    Finished,
    GenerateRequest,
    ReasoningTags,
    Terminal,
    TokenDelta,
    TokenExtra,
    ToolCallDelta,
    ToolUse,
    Usage,
)

PLAIN = GenerateRequest("req_1", "m", "hi", max_tokens=100)
TOOLS = attrs.evolve(PLAIN, tools=ToolUse("[]", "hermes"), reasoning_tags=ReasoningTags("<think>", "</think>"))
CALLS = (
    '<think>we\u2028ll</think>I look.\n<tool_call>\n{"name": "f", "arguments": {"a": [1, "\u2028"]}}\n</tool_call>'
    '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
)
CUT = CALLS[: CALLS.index('"arguments": {"a": [1') + 21]


def log_of(text: str, end: Terminal | None = None, stop: str = "") -> LogSlice:
    deltas = [TokenDelta(number, text[at : at + 3]) for number, at in enumerate(range(0, len(text), 3))]
    if stop:
        deltas.append(TokenDelta(0, "", TokenExtra(stop=stop)))
    return LogSlice(1, deltas, end or Finished("stop", Usage(7, len(deltas))))


def events_of(data: bytes) -> list[tuple[str, Any]]:
    found = []
    for event in data.decode().split("\n\n")[:-1]:
        name, payload = event.split("\n")
        fields = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {fields['type']}"
        found.append((fields["type"], fields))
    return found


def streamed(request: GenerateRequest, log: LogSlice, *, thinking: bool = True) -> list[tuple[str, Any]]:
    """The events, after a check that they do not depend on how the log was cut into slices."""
    one = MessageRenderer(request, shows_thinking=thinking)
    data = one.render(log)
    many = MessageRenderer(request, shows_thinking=thinking)
    parts = [LogSlice(number, (delta,)) for number, delta in enumerate(log.deltas, start=1)]
    assert b"".join(map(many.render, [*parts, LogSlice(len(parts) + 1, (), log.end)])) == data
    assert "\u2028" not in data.decode()
    return events_of(data)


def assembled(events: list[tuple[str, Any]]) -> dict[str, Any]:
    """The message, put together as the official client does, after a check of the order of the events."""
    assert [events[0][0], events[-2][0], events[-1][0]] == ["message_start", "message_delta", "message_stop"]
    message: dict[str, Any] = events[0][1]["message"]
    blocks, texts = message["content"], dict[int, str]()
    is_open = False
    for name, fields in events[1:-2]:
        if name == "content_block_start":
            assert not is_open
            assert fields["index"] == len(blocks)
            blocks.append(fields["content_block"])
            is_open = True
            continue
        assert is_open
        assert fields["index"] == len(blocks) - 1
        if name == "content_block_stop":
            is_open = False
        else:
            kind = fields["delta"]["type"].removesuffix("_delta")
            if kind == "input_json":
                texts[fields["index"]] = texts.get(fields["index"], "") + fields["delta"]["partial_json"]
            else:
                blocks[-1][kind] += fields["delta"][kind]
    assert not is_open
    for index, text in texts.items():
        blocks[index]["input"] = json.loads(text)
    return {**message, **events[-2][1]["delta"], "usage": events[-2][1]["usage"]}


def whole(request: GenerateRequest, log: LogSlice, *, thinking: bool = True) -> dict[str, Any]:
    assert isinstance(log.end, Finished)
    return whole_answer(request, log, log.end, shows_thinking=thinking)


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize(
    ("request_", "log", "reason"),
    [
        (PLAIN, log_of("some text"), "end_turn"),
        (PLAIN, log_of(""), "end_turn"),
        (PLAIN, log_of("some text", Finished("length", Usage(7, 100))), "max_tokens"),
        (PLAIN, log_of("some text", Finished("length", Usage(7, 99))), "model_context_window_exceeded"),
        (PLAIN, log_of("some text", stop="END"), "stop_sequence"),
        (TOOLS, log_of(CALLS), "tool_use"),
        (TOOLS, log_of("no call <tool"), "end_turn"),
    ],
)
def test_stream_and_whole_answer_agree(
    request_: GenerateRequest, log: LogSlice, reason: str, *, thinking: bool
) -> None:
    message = whole(request_, log, thinking=thinking)
    assert assembled(streamed(request_, log, thinking=thinking)) == message
    assert message["stop_reason"] == reason
    assert message["stop_sequence"] == ("END" if reason == "stop_sequence" else None)


def test_blocks_have_the_order_of_the_answer() -> None:
    content = whole(TOOLS, log_of(CALLS))["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block["input"] for block in content[2:]] == [{"a": [1, "\u2028"]}, {}]
    assert content[0] == {"type": "thinking", "thinking": "we\u2028ll", "signature": ""}
    assert content[2]["id"].startswith("toolu_")
    assert whole(TOOLS, log_of(CALLS), thinking=False)["content"] == content[1:]


def test_cut_call_is_left_out_of_a_whole_answer() -> None:
    """A program would take a part of the arguments for all of them."""
    cut = log_of(CUT, Finished("length", Usage(7, 100)))
    message = whole(TOOLS, cut)
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["stop_reason"] == "max_tokens"
    names = [name for name, _ in streamed(TOOLS, cut)]
    assert names.count("content_block_start") == names.count("content_block_stop") == 3


def test_wrong_arguments_are_an_error() -> None:
    call = ToolCallDelta(0, "id", "f", "not json")
    broken = TokenDelta(1, "", TokenExtra(tool_calls=(call,)))
    with pytest.raises(BackendFailed, match="called f with arguments that are no JSON object"):
        whole(PLAIN, LogSlice(1, (broken,), Finished("stop", Usage(7, 1))))


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (Failed("BACKEND_FAILED", "no"), "api_error"),
        (Failed("UNAVAILABLE", "no"), "overloaded_error"),
        (Failed("CONTEXT_EXCEEDED", "no"), "invalid_request_error"),
        (Failed("DEADLINE_EXCEEDED", "no"), "timeout_error"),
        (Finished("cancelled", Usage(0, 0)), "api_error"),
    ],
)
def test_failed_answer_ends_with_an_error_event(end: Terminal, kind: str) -> None:
    name, fields = streamed(PLAIN, log_of("some text", end))[-1]
    assert (name, fields["error"]["type"], fields["request_id"]) == ("error", kind, "req_1")
