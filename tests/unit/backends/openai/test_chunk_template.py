"""Chunks that are read by a template are those that the reader of all forms makes of the same bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.openai.responses.chunks import BadChunk, Chunk, ChunkReader

FIRST = "first"


def event(text: str, *, ascii_only: bool = False, line_end: str = "\n", **more: object) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        "model": "m",
        **more,
    }
    return f"data: {json.dumps(body, ensure_ascii=ascii_only)}{2 * line_end}".encode("utf-8", "surrogatepass")


def chunks_of(reader: ChunkReader, data: bytes) -> "list[Chunk] | str":
    try:
        return reader.feed(data)
    except BadChunk as error:
        return str(error)


def learned(line_end: str = "\n") -> ChunkReader:
    """A reader with a template."""
    reader = ChunkReader()
    assert reader.feed(event(FIRST, line_end=line_end)) == [Chunk(FIRST)]
    return reader


class SlowReader(ChunkReader):
    """A reader that never learns a template."""

    def __init__(self) -> None:
        super().__init__()
        self._templates_left = 0


TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(['"', "\\", '\\"', "\n", "é", "😀", "\ud83d", "{}", ""])


@given(texts=st.lists(TEXTS, max_size=6), ascii_only=st.booleans(), cut=st.integers(0, 400), crlf=st.booleans())
def test_template_reads_texts_as_the_reader_of_all_forms(
    texts: list[str], ascii_only: bool, cut: int, crlf: bool
) -> None:
    line_end = "\r\n" if crlf else "\n"
    data = b"".join(event(text, ascii_only=ascii_only, line_end=line_end) for text in [FIRST, *texts])
    quick, slow = learned(line_end), SlowReader()
    slow.feed(event(FIRST, line_end=line_end))
    for part in (data[:cut], data[cut:]):
        assert chunks_of(quick, part) == chunks_of(slow, part)
    assert quick.fault == slow.fault or str(quick.fault) == str(slow.fault)


@pytest.mark.parametrize(
    "other",
    [
        b"data: [DONE]\n\n",
        b": a comment\n\n",
        b"event: error\ndata: {}\n\n",
        b"data: {}\n\n",
        b"data: not JSON\n\n",
        b'data: {"error": {"message": "no"}}\n\n',
        event(" b", usage={"completion_tokens": 2}),
        event(" b", id="chatcmpl-2"),
        event(" b")[:-2],
        event(" b").replace(b" b", b'"b'),
        event(" b").replace(b" b", b"\\"),
        event(" b").replace(b" b", b"\x01"),
        event(" b").replace(b" b", b"\xff"),
        event(" b").replace(b"null", b'"stop"'),
    ],
)
def test_other_events_are_read_after_and_before_template_events(other: bytes) -> None:
    for data in (other, event(" a") + other, event(" a") + other + event(" c")):
        quick, slow = learned(), SlowReader()
        slow.feed(event(FIRST))
        assert chunks_of(quick, data) == chunks_of(slow, data)
        assert chunks_of(quick, event(" d")) == chunks_of(slow, event(" d"))


def test_text_that_stands_twice_in_an_event_makes_no_template() -> None:
    reader = ChunkReader()
    assert reader.feed(event("m")) == [Chunk("m")]
    assert reader.feed(event(" a") + event(" b")) == [Chunk(" a"), Chunk(" b")]


def test_events_that_always_differ_are_read() -> None:
    reader = ChunkReader()
    for number in range(40):
        assert reader.feed(event(f" {number}", created=number)) == [Chunk(f" {number}")]


def test_text_of_a_tool_call_makes_no_template() -> None:
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"x"}}]}}]}\n\n'
    reader = learned()
    [first] = reader.feed(call)
    [second] = reader.feed(call)
    assert (first.text, second.text) == ("", "")
    assert second.tool_calls[0].arguments == "x"


def test_nothing_is_read_behind_a_fault() -> None:
    reader = learned()
    assert reader.feed(event(" a") + b"data: no JSON\n\n" + event(" b")) == [Chunk(" a")]
    with pytest.raises(BadChunk):
        reader.feed(event(" c"))
