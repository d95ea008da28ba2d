"""What a reader finds in the bytes of an answer, in each form that servers send, and cut anywhere."""

import functools
import json
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.openai.responses.call_places import MAX_CALLS
from llmactors.backends.openai.responses.chunk_body import MAX_BODY_BYTES, as_count, read_finish
from llmactors.backends.openai.responses.chunks import BadChunk, Chunk, ChunkReader, error_of
from llmactors.backends.openai.responses.split_characters import SplitCharacters
from tests.support.dialects import DIALECTS, Dialect
from tests.support.splits import splits


def read(pieces: Iterable[bytes]) -> list[Chunk]:
    reader = ChunkReader()
    found = [chunk for piece in pieces for chunk in reader.feed(piece)]
    return found + reader.feed_eof()


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def calls_of(chunks: list[Chunk]) -> tuple[tuple[str, str], ...]:
    found: dict[int, tuple[str, str]] = {}
    for chunk in chunks:
        for call in chunk.tool_calls:
            name, arguments = found.get(call.index, ("", ""))
            found[call.index] = name + call.name, arguments + call.arguments
    assert list(found) == list(range(len(found)))
    return tuple(found.values())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
def test_answer_of_each_server_is_read_whole(dialect: Dialect) -> None:
    chunks = read([dialect.raw])
    assert "".join(chunk.text for chunk in chunks) == dialect.text
    assert "".join(chunk.reasoning for chunk in chunks) == dialect.reasoning
    assert [chunk.finish for chunk in chunks if chunk.finish][-1].replace("tool_calls", "stop") == dialect.finish
    assert calls_of(chunks) == dialect.calls
    counts = [(chunk.prompt_tokens, chunk.completion_tokens) for chunk in chunks if chunk.completion_tokens]
    assert counts[-1] == (dialect.prompt_tokens, dialect.completion_tokens)
    assert any(chunk.done for chunk in chunks) == dialect.is_done
    assert not any(chunk.error for chunk in chunks)


@given(st.sampled_from(DIALECTS), st.lists(st.integers(0, 5000), max_size=30))
def test_chunks_of_each_server_are_the_same_in_any_split(dialect: Dialect, cuts: list[int]) -> None:
    assert read(splits(dialect.raw, cuts)) == read([dialect.raw])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
def test_answer_is_the_same_byte_by_byte(dialect: Dialect) -> None:
    assert read(bytes([byte]) for byte in dialect.raw) == read([dialect.raw])


@given(st.text("a😀é\u4e2d", max_size=12), st.lists(st.integers(0, 40), max_size=12), st.booleans())
def test_no_character_is_lost_where_a_server_cuts_it(text: str, cuts: list[int], as_bytes: bool) -> None:
    if as_bytes:
        pieces = [piece.decode("utf-8", "surrogateescape") for piece in splits(text.encode(), cuts)]
    else:
        units = text.encode("utf-16-le")
        pieces = [piece.decode("utf-16-le", "surrogatepass") for piece in splits(units, [2 * cut for cut in cuts])]
    joiner = SplitCharacters()
    assert "".join(map(joiner.feed, pieces)) + joiner.flush() == text


@given(st.lists(st.text(st.characters(codec=None), max_size=4), max_size=8))
def test_text_of_half_characters_is_always_unicode(pieces: list[str]) -> None:
    joiner = SplitCharacters()
    "".join([*map(joiner.feed, pieces), joiner.flush()]).encode()


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([(None, "a", "f", "{}"), (None, "b", "f", "{}")], (("f", "{}"), ("f", "{}"))),
        ([(None, "a", "f", "{"), (None, "", "", "}"), (None, "b", "g", "")], (("f", "{}"), ("g", ""))),
        ([(0, "a", "f", "{}"), (0, "b", "g", "{}"), (0, "", "", " ")], (("f", "{}"), ("g", "{} "))),
        ([(0, "a", "f", "{"), (0, "a", "f", "}")], (("f", "{}"),)),
        ([(1, "a", "f", "{"), (0, "b", "g", ""), (1, "", "", "}")], (("f", "{}"), ("g", ""))),
        ([("0", "a", "f", ""), (1.0, "b", "g", "")], (("f", ""), ("g", ""))),
    ],
)
def test_parts_of_calls_are_told_apart(
    parts: list[tuple[object, str, str, str]], found: tuple[tuple[str, str], ...]
) -> None:
    calls = [
        {"index": index, "id": name_id or None, "function": {"name": name or None, "arguments": arguments}}
        for index, name_id, name, arguments in parts
    ]
    assert calls_of(read(event({"choices": [{"delta": {"tool_calls": [call]}}]}) for call in calls)) == found


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", "stop"),
        ("tool_calls", "stop"),
        ("eos", "stop"),
        ("stop_sequence", "stop"),
        ("end_turn", "stop"),
        ("brand_new", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("abort", "error"),
        ("error", "error"),
        ("insufficient_system_resource", "error"),
        ("", None),
        ("null", None),
        (None, None),
    ],
)
def test_finish_reasons_of_all_servers_are_known(word: str | None, finish: str | None) -> None:
    assert read_finish(word) == finish


def test_broken_answer_is_an_error() -> None:
    [chunk] = read([event({"choices": [{"delta": {"content": "a"}, "finish_reason": "abort"}]})])
    assert chunk.error is not None
    assert "abort" in chunk.error["message"]


@pytest.mark.parametrize(
    "raw",
    [
        event({"error": {"message": "no", "code": 500}}),
        event({"object": "error", "message": "no", "code": 500, "type": "InternalServerError"}),
        event({"x_groq": {"id": "r", "error": "no"}, "choices": []}),
        event({"type": "error", "error": {"message": "no"}}),
        b"event: error\ndata: no\n\n",
        b'{"error":{"message":"no"}}',
    ],
)
def test_error_in_a_stream_is_read_in_any_form(raw: bytes) -> None:
    [error] = [chunk.error for chunk in read([raw]) if chunk.error]
    assert error["message"] == "no"


@pytest.mark.parametrize(
    ("number", "count"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("3.0", 3),
        (None, None),
        ("x", None),
        (-1, None),
        (float("inf"), None),
        (1e300, int(1e300)),
    ],
)
def test_counts_are_read_in_any_form(number: float | str | None, count: int | None) -> None:
    assert as_count(number) == count


@pytest.mark.parametrize("body", [b'[{"error":{"message":"no"}}]', b'{"error":"no"}', b'{"message":"no"}'])
def test_refusal_is_read_in_any_form(body: bytes) -> None:
    assert error_of(body)["message"] == "no"


def test_chunks_before_a_fault_are_not_lost() -> None:
    reader = ChunkReader()
    assert reader.feed(event({"choices": [{"text": "a"}]}) + b"data: {bad\n\n") == [Chunk("a")]
    for _ in range(2):
        with pytest.raises(BadChunk):
            reader.feed(b"")


def test_cut_last_event_is_dropped() -> None:
    assert read([b'data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"te']) == [Chunk("a")]


DEEP = b"[" * 100_000
DEEP_AND_SHORT = b"[" * 30_000
MANY = b"{}," * 300_000


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"x":' + DEEP + b"\n\n",
        b'{"x":' + DEEP,
        b'data: {"x":' + DEEP_AND_SHORT + b"\n\n",
        b'{"x":' + DEEP_AND_SHORT,
        b"event: error\ndata: " + DEEP + b"\n\n",
        b'data: {"choices":[' + MANY + b"{}]}\n\n",
        b'data: {"choices":[{"delta":{"tool_calls":[' + MANY + b"{}]}}]}\n\n",
        b'{"choices":[' + MANY + b"{}]}",
        b'data: {"choices":[{"delta":{"content":[' + b"1," * 400_000 + b"1]}}]}\n\n",
        b'data: {"choices":[{"delta":{"content":"' + b"\\ud83d" * 100_000 + b'"}}]}\n\n',
        b"data: {}\n\n" * 100_000,
        b"\n" * 1_000_000,
        b": x\n" * 200_000,
        b"data: " + b"x" * 2_000_000,
        event({"choices": [{"delta": {"tool_calls": [{"id": str(at)}]}} for at in range(100)]}) * 20,
    ],
    ids=range(15),
)
def test_odd_bytes_hold_the_loop_for_a_short_time(raw: bytes) -> None:
    """In pieces as a socket reads them, no piece takes longer than 20 ms, and what is kept is bounded."""
    reader, longest = ChunkReader(), 0.0
    steps: list[Callable[[], object]] = [
        functools.partial(reader.feed, raw[at : at + 65_536]) for at in range(0, len(raw), 65_536)
    ]
    for step in [*steps, reader.feed_eof]:
        began = time.thread_time()
        try:
            step()
        except BadChunk:
            break
        finally:
            longest = max(longest, time.thread_time() - began)
    assert longest < 0.02


def test_more_calls_than_an_answer_can_have_are_refused() -> None:
    reader = ChunkReader()
    for at in range(MAX_CALLS):
        reader.feed(event({"choices": [{"delta": {"tool_calls": [{"id": str(at)}]}}]}))
    with pytest.raises(BadChunk, match="calls"):
        reader.feed(event({"choices": [{"delta": {"tool_calls": [{"id": "more"}]}}]}))


def test_whole_answer_has_a_bound() -> None:
    reader = ChunkReader()
    reader.feed(b"{")
    with pytest.raises(BadChunk, match="longer"):
        reader.feed(b" " * MAX_BODY_BYTES)


@pytest.mark.parametrize("odd", [b'"\xff"', b"1e999"])
def test_error_with_odd_fields_is_an_error(odd: bytes) -> None:
    [chunk] = read([b'data: {"object":"error","message":"no","more":%b}\n\n' % odd])
    assert chunk.error is not None
    assert "no" in chunk.error["message"]
