"""The reader of server-sent events, against the standard's own rules and in any split."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.http.sse_reader import BadEventStream, SseEvent, SseReader
from tests.support.splits import splits


def read(*pieces: bytes) -> list[SseEvent]:
    reader = SseReader()
    return [event for piece in pieces for event in reader.feed(piece)]


def by_the_standard(raw: bytes) -> tuple[list[tuple[str, str, str]], str]:
    """Name, data and last id of each event, and the last id: the standard's steps, on a whole stream, as text."""
    text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\n|\r", text)
    events: list[tuple[str, str, str]] = []
    data, name, last_id = "", "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append((name or "message", data.removesuffix("\n"), last_id))
            data, name = "", ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
    return events, last_id


LINES = st.lists(
    st.sampled_from(
        [
            "data: {}", "data:x", "data", "data:  two", "data: ", "event: token", "event:", "id: 7", "id", "id:\0", ":",
            ": ping", "retry: 5", "unknown: x", "", "", "", " data: x", "data : x", "dataset: x", "data: grüße 😀",
            "event: grüße", "id: ü", "\ufeffdata: x",
        ]
    ),
    max_size=20,
)  # fmt: skip
ENDS = st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=20, max_size=20)


@given(lines=LINES, ends=ENDS, mark=st.booleans(), cuts=st.lists(st.integers(0, 500), max_size=40))
def test_events_follow_the_standard_in_any_split(
    lines: list[str], ends: list[str], *, mark: bool, cuts: list[int]
) -> None:
    text = "".join(line + end for line, end in zip(lines, ends, strict=False))
    raw = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    reader = SseReader()
    events: list[tuple[str, str, str]] = []
    for piece in splits(raw, cuts):
        found = reader.feed(piece)
        events += [(event.name, event.data.decode(), event.id or "") for event in found]
    expected, last_id = by_the_standard(raw)
    # The standard repeats the last id in events that have none of their own.
    last = ""
    with_last = []
    for name, data, own in events:
        last = own or last
        with_last.append((name, data))
    assert with_last == [(name, data) for name, data, _ in expected]
    assert reader.last_id == last_id


@given(st.binary(max_size=300), st.lists(st.integers(0, 500), max_size=40))
def test_any_bytes_give_the_same_in_any_split(raw: bytes, cuts: list[int]) -> None:
    raw = raw.replace(b"error", b"")
    events = read(*splits(raw, cuts))
    assert events == read(raw)
    expected, _ = by_the_standard(raw)
    assert [event.data.decode(errors="replace") for event in events] == [data for _, data, _ in expected]


def test_event_has_its_name_id_and_lines() -> None:
    raw = b": hello\nid: 3\nevent: token\ndata: one\ndata: two\n\ndata: three\n\n"
    assert read(raw) == [SseEvent(b"one\ntwo", "token", "3"), SseEvent(b"three")]


def test_event_is_complete_with_its_empty_line() -> None:
    reader = SseReader()
    assert reader.feed(b"data: x\n") == []
    assert reader.in_event
    assert reader.feed(b"\n") == [SseEvent(b"x")]
    assert not reader.in_event


def test_event_ends_with_a_carriage_return() -> None:
    """The reader does not wait for the line feed that may follow: the next token may be seconds away."""
    reader = SseReader()
    assert reader.feed(b"data: x\r\r") == [SseEvent(b"x")]
    assert reader.feed(b"\ndata: y\r\n\r") == [SseEvent(b"y")]
    assert reader.feed(b"\n") == []
    assert not reader.in_event


def test_event_without_data_is_dropped() -> None:
    reader = SseReader()
    assert reader.feed(b"id: 9\nevent: token\n\ndata: x\n\n") == [SseEvent(b"x")]
    assert reader.last_id == "9"


def test_error_line_of_llama_cpp_is_an_event() -> None:
    assert read(b'error: {"code":500}\n\n') == [SseEvent(b'{"code":500}', "error")]


@pytest.mark.parametrize("step", [1, 64, 100_000])
@pytest.mark.parametrize("flood", [b"x" * 5000, b"data: " + b"x" * 5000, b"data: 0123456789\n" * 500, b"data\n" * 5000])
def test_endless_events_are_refused(flood: bytes, step: int) -> None:
    reader = SseReader(max_event_bytes=1000)
    pieces = [flood[at : at + step] for at in range(0, len(flood), step)]
    with pytest.raises(BadEventStream):
        [reader.feed(piece) for piece in [*pieces, b"\n\n"]]


def test_endless_comments_take_no_memory() -> None:
    reader = SseReader(max_event_bytes=1000)
    for _ in range(1000):
        assert reader.feed(b": keep-alive\n\n" * 100) == []
    assert not reader.in_event
