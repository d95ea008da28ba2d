"""The output items of a response are the same however the log comes, and the events of an item tell all of it."""

import itertools
from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmactors.gateway.openai.responses.output import Event, OutputItems, fold_items
from llmactors.messages import GenerateRequest, ReasoningTags, TokenDelta, ToolUse

REQUEST = GenerateRequest(
    "req_0a", "m", "hi", tools=ToolUse("[]", "hermes"), reasoning_tags=ReasoningTags("<think>", "</think>")
)
CALLS = (
    '<tool_call>\n{"name":"look","arguments":{"at":"the \\"sky\\""}}\n</tool_call>\n'
    '<tool_call>\n{"name":"wait","arguments":{}}\n</tool_call>'
)
TEXT = f"<think>Hm, what?</think>I look.\n{CALLS}"


def tokens(text: str, cuts: list[int]) -> list[TokenDelta]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [TokenDelta(0, text[start:end]) for start, end in itertools.pairwise(places)]


def told(text: str, cuts: list[int], status: str = "completed") -> tuple[list[Event], OutputItems]:
    items = OutputItems(REQUEST)
    events = [event for delta in tokens(text, cuts) for event in items.feed(delta)]
    return [*events, *items.end(status)], items


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_items_do_not_depend_on_the_tokens(cuts: list[int]) -> None:
    _, items = told(TEXT, cuts)
    thought, message, look, wait = items.items
    assert (thought["type"], thought["content"]) == ("reasoning", [{"type": "reasoning_text", "text": "Hm, what?"}])
    assert (message["type"], message["content"][0]["text"]) == ("message", "I look.")
    assert (look["name"], look["arguments"]) == ("look", '{"at":"the \\"sky\\""}')
    assert (wait["name"], wait["arguments"]) == ("wait", "{}")
    assert look["call_id"] != wait["call_id"]
    assert {item["status"] for item in items.items} == {"completed"}
    assert items.items == fold_items(REQUEST, tokens(TEXT, cuts), "completed", is_over=True).items


@given(st.lists(st.integers(0, 1000), max_size=12))
def test_events_of_an_item_add_up_to_the_item(cuts: list[int]) -> None:
    events, items = told(TEXT, cuts)
    grown: dict[int, str] = defaultdict(str)
    added: list[dict[str, Any]] = []
    for kind, fields in events:
        place = fields["output_index"]
        if kind == "response.output_item.added":
            assert place == len(added), "an item begins after the items before it"
            added.append(fields["item"])
        assert place == len(added) - 1, "only the last item has events"
        if kind.endswith(".delta"):
            grown[place] += fields["delta"]
        if kind == "response.output_item.done":
            assert fields["item"] == items.items[place]
    assert [(item["id"], item["type"]) for item in added] == [(item["id"], item["type"]) for item in items.items]
    assert [grown[place] for place in range(4)] == ["Hm, what?", "I look.", '{"at":"the \\"sky\\""}', "{}"]


def test_answer_that_was_cut_in_a_call_shows_the_part() -> None:
    _, items = told(TEXT[: TEXT.index("sky")], [], "incomplete")
    assert (items.items[-1]["arguments"], items.items[-1]["status"]) == ('{"at":"the \\"', "incomplete")
    assert items.items[0]["status"] == "completed"


def test_answer_without_pieces_has_an_empty_message() -> None:
    events, items = told("", [])
    assert items.items[0]["content"][0]["text"] == ""
    assert next(kind for kind, _ in events) == "response.output_item.added"


def test_items_are_shown_while_the_last_one_grows() -> None:
    items = fold_items(REQUEST, tokens("<think>Hm", []), "in_progress", is_over=False)
    [thought] = items.shown("in_progress")
    assert (thought["content"][0]["text"], thought["status"]) == ("Hm", "in_progress")
