"""From tokens to pieces: calls, reasoning, and text that only looks like either."""

import itertools
import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.messages import GenerateRequest, ReasoningTags, TokenDelta, TokenExtra, ToolCallDelta, ToolUse
from llmactors.tool_calls.fold import AnswerFold, fold_answer
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning, call_id
from tests.unit.tool_calls.rendering import RENDERINGS, Call

THINK = ReasoningTags("<think>", "</think>")
FORMATS = ("hermes", "llama3", "mistral")
NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_-]{0,15}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(st.text(max_size=6), VALUES, max_size=3)), min_size=1, max_size=3)
FRAGMENTS = st.sampled_from(
    [
        "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>",
        '{"name": "f", "arguments": {', '{"name": "f", "parameters": {"a": 1}}', '{"arguments": {}, "name": "f"}',
        '{"a": "}"', "}", "]", "[", ",", ";", "f{", '"', "\\", "\n", "  ", "text", "<", "<too", "[TOOL", "1 ",
    ]
)  # fmt: skip


def request(form: str = "", tags: ReasoningTags | None = None) -> GenerateRequest:
    tools = ToolUse("[]", form) if form else None
    return GenerateRequest(id="req_1", model="m", prompt="p", tools=tools, reasoning_tags=tags)


def deltas(texts: Iterable[str]) -> list[TokenDelta]:
    return [TokenDelta(7, text) for text in texts]


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, with neighbours of one kind joined."""
    found: list[Piece] = []
    for piece in pieces:
        match (found[-1] if found else None), piece:
            case Content(one), Content(other):
                found[-1] = Content(one + other)
            case Reasoning(one), Reasoning(other):
                found[-1] = Reasoning(one + other)
            case CallArguments(index, one), CallArguments(_, other):
                found[-1] = CallArguments(index, one + other)
            case _:
                found.append(piece)
    return found


def folded(text: str, form: str = "hermes", tags: ReasoningTags | None = None) -> list[Piece]:
    return joined(fold_answer(request(form, tags), deltas([text])))


def calls_in(pieces: Sequence[Piece]) -> list[Call]:
    names = [piece.name for piece in pieces if isinstance(piece, CallBegun)]
    texts = [""] * len(names)
    for piece in pieces:
        if isinstance(piece, CallArguments):
            texts[piece.index] += piece.text
    return [(name, json.loads(text)) for name, text in zip(names, texts, strict=True)]


def cut(text: str, places: Iterable[int]) -> list[str]:
    bounds = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize("way", RENDERINGS)
@given(calls=CALLS, prose=st.sampled_from(["", "Let me look. ", "I think\n\n"]))
def test_rendered_calls_are_read_back(way: str, calls: list[Call], prose: str) -> None:
    form, render = RENDERINGS[way]
    prose = "" if form == "llama3" else prose
    pieces = folded(prose + render(calls), form)
    assert calls_in(pieces) == calls
    assert [piece for piece in pieces if isinstance(piece, Content)] == ([Content(prose.rstrip())] if prose else [])


@given(
    form=st.sampled_from(("", *FORMATS)),
    tags=st.sampled_from([None, THINK, ReasoningTags("<think>", "</think>", begun=True)]),
    parts=st.lists(FRAGMENTS, max_size=12),
    places=st.lists(st.integers(0, 500), max_size=40),
)
def test_pieces_do_not_depend_on_where_text_is_cut(
    form: str, tags: ReasoningTags | None, parts: list[str], places: list[int]
) -> None:
    text = "".join(parts)
    whole = folded(text, form, tags)
    assert joined(fold_answer(request(form, tags), deltas(cut(text, places)))) == whole
    assert joined(fold_answer(request(form, tags), deltas(text))) == whole


@given(form=st.sampled_from(FORMATS), parts=st.lists(FRAGMENTS, max_size=12))
def test_arguments_belong_to_calls_that_have_begun(form: str, parts: list[str]) -> None:
    begun = 0
    for piece in fold_answer(request(form, THINK), deltas(parts)):
        match piece:
            case CallBegun(index, _, name):
                assert (index, bool(name)) == (begun, True)
                begun += 1
            case CallArguments(index):
                assert index == begun - 1


@given(text=st.text(max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    if "<t" not in text and "[T" not in text:
        for form in ("", "hermes", "mistral"):
            assert folded(text, form) == ([Content(text)] if text else [])


def test_arguments_come_as_they_come_in_the_log() -> None:
    fold = AnswerFold(request("hermes"))
    parts = ["Hi ", "<tool", '_call>\n{"name": "f",', ' "arguments": {"a"', ": 1", "}", "}\n", "</tool_call>"]
    assert [fold.feed(delta) for delta in deltas(parts)] == [
        [Content("Hi")],
        [],
        [],
        [CallBegun(0, call_id("req_1", 0), "f"), CallArguments(0, '{"a"')],
        [CallArguments(0, ": 1")],
        [CallArguments(0, "}")],
        [],
        [],
    ]
    assert fold.end() == []
    assert [fold.reason(reason) for reason in ("stop", "length", "cancelled")] == ["tool_calls", "length", "cancelled"]


def test_reason_stays_without_calls() -> None:
    fold = AnswerFold(request("hermes"))
    fold.feed(TokenDelta(1, "no call"))
    assert fold.reason("stop") == "stop"


def test_call_ids_differ_by_request_and_index() -> None:
    ids = {call_id(request_id, index) for request_id in ("req_1", "req_2") for index in (0, 1)}
    assert len(ids) == 4
    assert all(each.startswith("call_") and each.removeprefix("call_").isalnum() for each in ids)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "a <tool_call> is a tag"),
        ("hermes", '<tool_call>\n{"name": "f", "arg'),
        ("hermes", '<tool_call>\n{"city": "Oslo"}'),
        ("hermes", "ends with <tool_ca"),
        ("hermes", "<tool_call>" + " " * 3000),
        ("llama3", '{"city": "Oslo"}'),
        ("llama3", '{"name": "Bob", "age": 5}'),
        ("llama3", '{"name": "Bob"}'),
        ("llama3", "<|python_tag|>print(1)"),
        ("llama3", 'no {"name": "f", "parameters": {}}'),
        ("mistral", "[TOOL_CALLS] are a tag"),
        ("mistral", "[TOOL_CALLS]weather"),
        ("mistral", "[TOOL_CALLS]" + "w" * 3000 + "{}"),
    ],
)
def test_text_that_is_no_call_is_content(form: str, text: str) -> None:
    assert folded(text, form) == [Content(text)]


@pytest.mark.parametrize(
    ("form", "text", "arguments"),
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "x', '{"a": "x'),
        ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', '{"a": 1}'),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', '{"a": 1}'),
        ("hermes", '<tool_call>{"name": "f", "arguments": null}</tool_call>', "{}"),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "{}"),
        ("hermes", '<tool_call>{"type": "function", "name": "f", "arguments": {}, "id": 7}</tool_call>', "{}"),
        ("hermes", '<tool_call>{"name": "f", "arguments": {}}', "{}"),
        ("llama3", '{"type": "function", "name": "f", "parameters": {"a": "}"}}', '{"a": "}"}'),
        ("llama3", '<|python_tag|>{"name": "f"}', "{}"),
        ("mistral", '[TOOL_CALLS] [ {"name": "f", "arguments": {"a": 1}} ]', '{"a": 1}'),
        ("mistral", '[TOOL_CALLS]f{"a": 1}', '{"a": 1}'),
    ],
)
def test_unusual_calls_are_read(form: str, text: str, arguments: str) -> None:
    assert folded(text, form) == [CallBegun(0, call_id("req_1", 0), "f"), CallArguments(0, arguments)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<think>\nhm\n</think>\n\nyes", [Reasoning("hm"), Content("yes")]),
        ("\n<think>hm</think>", [Reasoning("hm")]),
        ("<think>hm </thi", [Reasoning("hm </thi")]),
        ("I <think> so", [Content("I <think> so")]),
        ("<thi", [Content("<thi")]),
        ('<think>hm\n<tool_call>{"name": "f"}</tool_call>', [Reasoning("hm"), CallBegun, CallArguments]),
        ('<think>a</think>b<tool_call>{"name": "f"}</tool_call>', [Reasoning, Content("b"), CallBegun, CallArguments]),
    ],
)
def test_reasoning_is_split_at_its_tags(text: str, pieces: list[object]) -> None:
    found = folded(text, "hermes", THINK)
    assert [type(each) if isinstance(want, type) else each for each, want in zip(found, pieces, strict=True)] == pieces


def test_reasoning_may_begin_in_the_prompt() -> None:
    begun = ReasoningTags("<think>", "</think>", begun=True)
    assert folded("\nhm\n</think>\nyes", "", begun) == [Reasoning("hm"), Content("yes")]
    assert folded("hm", "", begun) == [Reasoning("hm")]


def test_calls_of_upstreams_are_counted_anew() -> None:
    parts = [
        (ToolCallDelta(3, "a", "f"), ToolCallDelta(3, "a", "f", "{")),
        (ToolCallDelta(3, "", "", "}"),),
        (ToolCallDelta(3, "b", "g", "{}"), ToolCallDelta(9, "", "", "lost"), ToolCallDelta(0, "c", "h")),
    ]
    found = fold_answer(request(), [TokenDelta(0, "", TokenExtra(tool_calls=calls)) for calls in parts])
    assert joined(found) == [
        CallBegun(0, call_id("req_1", 0), "f"),
        CallArguments(0, "{}"),
        CallBegun(1, call_id("req_1", 1), "g"),
        CallArguments(1, "{}"),
        CallBegun(2, call_id("req_1", 2), "h"),
    ]
