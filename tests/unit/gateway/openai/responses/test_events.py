"""The events of a response follow from its log alone, in whatever pieces the log comes, at any gateway."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.errors import Unavailable
from llmactors.gateway.openai.responses.events import EventRenderer
from llmactors.gateway.openai.responses.stored import StoredResponse
from llmactors.gateway.openai.responses.view import ResponseView
from llmactors.http.sse_reader import SseReader
from llmactors.ledger import LogSlice
from llmactors.messages import ChatMessage, Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage

STOP = Finished("stop", Usage(3, 2))
ENDS: list[Terminal] = [
    STOP,
    Finished("length", Usage(3, 2)),
    Finished("cancelled", Usage(0, 2)),
    Failed("POISONED", "it crashed"),
    Failed("INVALID_REQUEST", "the prompt is too long"),
]


def shown(**kept: Any) -> ResponseView:
    metadata = StoredResponse(**kept).encoded
    messages = (ChatMessage("system", "Be brief."), ChatMessage("user", "hi"))
    request = GenerateRequest("req_0a", "m", "", messages=messages, created_ms=1_700_000_000_900, metadata=metadata)
    found = ResponseView.of(request)
    assert found is not None
    return found


def log(texts: list[str], end: Terminal | None = None) -> LogSlice:
    return LogSlice(1, [TokenDelta(number, text) for number, text in enumerate(texts)], end)


def parse(stream: bytes) -> list[dict[str, Any]]:
    assert stream == b"" or stream.endswith(b"\n\n")
    events: list[dict[str, Any]] = []
    for event in SseReader().feed(stream):
        events.append(json.loads(event.data))
        assert event.name == events[-1]["type"]
    return events


def all_of(whole: LogSlice, *, starting_after: int = -1, cuts: tuple[int, ...] = (), **kept: Any) -> bytes:
    """The stream of a log that comes in pieces, cut at these places; a cut after all tokens lets the end come alone."""
    renderer = EventRenderer(shown(**kept), starting_after)
    stream = renderer.begin()
    start = 0
    for cut in sorted(cuts):
        stream += renderer.render(LogSlice(start + 1, whole.deltas[start:cut]))
        start = cut
    return stream + renderer.render(LogSlice(start + 1, whole.deltas[start:], whole.end))


def names(stream: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in parse(stream)]


LOGS = st.builds(log, st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.sampled_from(ENDS))


@given(whole=LOGS, data=st.data())
def test_events_do_not_depend_on_the_pieces_of_the_log(whole: LogSlice, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(whole.deltas)), max_size=5))
    assert all_of(whole, cuts=tuple(cuts)) == all_of(whole)


@given(whole=LOGS, data=st.data())
def test_reconnecting_client_gets_events_after_its_last(whole: LogSlice, data: st.DataObject) -> None:
    cuts = tuple(data.draw(st.lists(st.integers(0, len(whole.deltas)), max_size=5)))
    events = all_of(whole).split(b"\n\n")[:-1]
    after = data.draw(st.integers(-1, len(events) + 2))
    expected = b"".join(event + b"\n\n" for event in events[after + 1 :])
    assert all_of(whole, cuts=cuts, starting_after=after) == expected


@given(whole=LOGS)
def test_sequence_numbers_have_no_gap_and_one_event_is_last(whole: LogSlice) -> None:
    events = parse(all_of(whole))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    lasts = {"response.completed", "response.incomplete", "response.failed"}
    assert [event["type"] in lasts for event in events] == [False] * (len(events) - 1) + [True]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [event["sequence_number"] for event in deltas] == [3 + seq + 1 for seq in range(len(whole.deltas))]
    text = "".join(delta.text for delta in whole.deltas)
    assert "".join(event["delta"] for event in deltas) == text
    output = events[-1]["response"]["output"]
    assert "".join(part["text"] for item in output for part in item["content"]) == text


@given(whole=LOGS)
def test_last_event_has_the_final_response_object(whole: LogSlice) -> None:
    assert shown().now("ended", whole) == parse(all_of(whole))[-1]["response"]


def test_events_come_in_the_documented_order() -> None:
    opening = ["created", "in_progress", "output_item.added", "content_part.added"]
    closing = ["output_text.done", "content_part.done", "output_item.done"]
    deltas = ["output_text.delta"] * 2
    assert names(all_of(log(["a", ""], STOP))) == [*opening, *deltas, *closing, "completed"]
    assert names(all_of(log(["a", "b"], ENDS[1]))) == [*opening, *deltas, *closing, "incomplete"]
    assert names(all_of(log([], STOP))) == [*opening, *closing, "completed"]
    assert names(all_of(log(["a", "b"], ENDS[2]))) == [*opening, *deltas, *closing, "incomplete"]
    assert names(all_of(log([], ENDS[2]))) == ["created", "incomplete"]
    assert names(all_of(log(["a", "b"], ENDS[3]))) == [*opening, *deltas, "error", "failed"]
    assert names(all_of(log([], ENDS[3]))) == ["created", "error", "failed"]


def test_only_creation_events_precede_the_first_token() -> None:
    renderer = EventRenderer(shown())
    [created] = parse(renderer.begin())
    assert (created["type"], created["response"]["status"]) == ("response.created", "in_progress")
    assert renderer.render(log([])) == b""
    [created] = parse(EventRenderer(shown(background=True)).begin())
    assert created["response"]["status"] == "queued"


@pytest.mark.parametrize(
    ("end", "status", "item", "reason"),
    [
        (ENDS[0], "completed", "completed", None),
        (ENDS[1], "incomplete", "incomplete", {"reason": "max_output_tokens"}),
        (ENDS[2], "cancelled", "incomplete", None),
        (ENDS[3], "failed", "incomplete", None),
    ],
)
def test_each_kind_of_end_has_its_status(end: Terminal, status: str, item: str, reason: object) -> None:
    response = shown().now("ended", log(["a", "b"], end))
    assert (response["status"], response["output"][0]["status"]) == (status, item)
    assert response["incomplete_details"] == reason
    assert (response["usage"] is not None) == (status in {"completed", "incomplete"})
    assert (response["error"] is not None) == (status == "failed")


def test_failure_has_the_openai_error_code() -> None:
    codes = {}
    for end in ENDS[3:]:
        error = shown().now("ended", log([], end))["error"]
        codes[error["type"]] = error["code"]
    assert codes == {"poisoned": "server_error", "invalid_request": "invalid_prompt"}
    event = parse(all_of(log(["a"], ENDS[3])))[-2]
    assert (event["code"], event["message"], event["param"]) == ("poisoned", "it crashed", None)
    assert event["error"]["message"] == "it crashed"


def test_status_is_queued_then_in_progress_before_the_end() -> None:
    assert shown().now("queued", log([]))["status"] == "queued"
    assert shown().now("running", log([]))["status"] == "in_progress"
    again = shown().now("queued", log(["a", "b"]))
    assert (again["status"], again["output"][0]["content"][0]["text"]) == ("in_progress", "ab")
    assert again["output"][0]["status"] == "in_progress"


def test_response_repeats_the_fields_of_the_request() -> None:
    response = shown(instructions=True, background=True, metadata={"a": "b"}, max_output_tokens=9).now(
        "queued", log([])
    )
    assert response["instructions"] == "Be brief."
    assert response["metadata"] == {"a": "b"}
    assert (response["background"], response["store"], response["max_output_tokens"]) == (True, True, 9)
    assert response["created_at"] == 1_700_000_000
    assert (response["id"], response["object"]) == ("resp_0a", "response")


def test_cut_event_changes_no_sequence_number() -> None:
    fresh = EventRenderer(shown())
    fresh.begin()
    assert parse(fresh.render_cut(Unavailable("cut")))[0]["sequence_number"] == 0
    fresh.render(log(["a", "b"]))
    [event] = parse(fresh.render_cut(Unavailable("cut")))
    assert (event["type"], event["sequence_number"], event["code"]) == ("error", 5, "unavailable")
    resumed = EventRenderer(shown(), starting_after=9)
    assert parse(resumed.render_cut(Unavailable("cut")))[0]["sequence_number"] == 9
