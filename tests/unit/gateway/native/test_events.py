"""Events as SSE and as JSON: an independent parser reads back any text."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmactors.errors import Unavailable
from llmactors.gateway.native.events import KEEP_ALIVE, JsonRenderer, SseRenderer, render_cut
from llmactors.http.sse_reader import SseEvent, SseReader
from llmactors.ledger import LogSlice
from llmactors.messages import Failed, Finished, Terminal, TokenDelta, Usage

USAGE = Usage(3, 4)
TEXTS = st.lists(st.text() | st.sampled_from(["\r", "\n", "\r\n\r\n", "\u2028", "\x85", "\n\ndata: x\n\n", "\0", ":"]))
ENDS: st.SearchStrategy[Terminal | None] = st.none() | st.sampled_from(
    [Finished("stop", USAGE), Failed("POISONED", "two\n\nlines\r", USAGE)]
)


@st.composite
def slices(draw: st.DrawFn) -> LogSlice:
    deltas = [TokenDelta(index, text) for index, text in enumerate(draw(TEXTS))]
    return LogSlice(draw(st.integers(1, 10**12)), deltas, draw(ENDS))


def parse_by_the_book(body: bytes) -> list[SseEvent]:
    """The algorithm of https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6, step by step."""
    found = []
    last_id, name, data = "", "", ""
    text = body.decode().replace("\r\n", "\n").replace("\r", "\n")
    *lines, unfinished = text.split("\n")
    assert not unfinished
    for line in lines:
        if not line:
            if data:
                found.append(SseEvent(data.removesuffix("\n").encode(), name or "message", last_id or None))
            name = data = ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                name = value
            case "data":
                data += value + "\n"
            case "id" if "\0" not in value:
                last_id = value
    return found


def expected(part: LogSlice) -> list[dict[str, Any]]:
    payloads: list[dict[str, Any]] = [
        {"event": "token", "id": "req_1", "seq": part.first_seq + index, "text": delta.text}
        for index, delta in enumerate(part.deltas)
    ]
    end: dict[str, Any] = {"id": "req_1", "seq": part.first_seq + len(part.deltas)}
    if isinstance(part.end, Finished):
        usage = {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "cached_tokens": 0,
        }
        payloads.append({"event": "done", **end, "finish_reason": part.end.reason, "usage": usage})
    elif part.end is not None:
        payloads.append({"event": "error", **end, "error": {"code": part.end.code, "message": part.end.message}})
    return payloads


@given(slices())
def test_sse_events_are_read_back_by_a_standard_parser(part: LogSlice) -> None:
    events = parse_by_the_book(SseRenderer("req_1").render(part))

    assert [{"event": event.name, **json.loads(event.data)} for event in events] == expected(part)
    assert [event.id for event in events] == [str(payload["seq"]) for payload in expected(part)]


@given(slices())
def test_websocket_events_equal_sse_events(part: LogSlice) -> None:
    assert [json.loads(text) for text in JsonRenderer("req_1").render(part)] == expected(part)


@given(slices(), st.data())
def test_own_client_reads_events_in_any_pieces(part: LogSlice, data: st.DataObject) -> None:
    body = KEEP_ALIVE + SseRenderer("req_1").render(part) + KEEP_ALIVE
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=20)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]

    reader = SseReader()
    assert [event for piece in pieces for event in reader.feed(piece)] == parse_by_the_book(body)


@given(slices())
def test_own_client_reads_events_byte_by_byte(part: LogSlice) -> None:
    body = SseRenderer("req_1").render(part)
    reader = SseReader()

    found = [event for index in range(len(body)) for event in reader.feed(body[index : index + 1])]

    assert found == parse_by_the_book(body)


def test_cut_event_has_no_id() -> None:
    (event,) = parse_by_the_book(render_cut("req_1", Unavailable("going\ndown")))

    assert (event.name, event.id) == ("error", None)
    assert json.loads(event.data) == {"id": "req_1", "error": {"code": "UNAVAILABLE", "message": "going\ndown"}}


def test_no_new_tokens_render_no_bytes() -> None:
    assert SseRenderer("req_1").render(LogSlice(5, ())) == b""
    assert JsonRenderer("req_1").render(LogSlice(5, ())) == []
