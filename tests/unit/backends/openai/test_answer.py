"""From the bytes of an upstream to the deltas of the log."""

import json
import time
from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.openai.responses.answer import TextOverrun, UpstreamAnswer
from llmactors.backends.openai.responses.chunks import NO_TOKEN, BadChunk, Chunk, ChunkReader
from llmactors.backends.openai.routing.faults import retry_after_s
from llmactors.messages import TokenDelta, TokenExtra, TokenLogprob, ToolCallDelta, TopLogprob


def answer(pieces: list[str], *, room: int = 64, stops: tuple[str, ...] = (), completion_tokens: int = 0) -> list[str]:
    made = UpstreamAnswer(stops, room)
    deltas = [delta for piece in pieces if not made.stopped for delta in made.take(Chunk(piece))]
    made.take(Chunk(finish="stop", completion_tokens=completion_tokens))
    deltas += made.close()
    assert all(delta.token == NO_TOKEN for delta in deltas)
    return [delta.text for delta in deltas]


def test_each_chunk_is_one_token() -> None:
    assert answer(["a", "b"]) == ["a", "b"]


def test_upstream_count_is_matched_by_empty_deltas() -> None:
    assert answer(["ab", "c"], completion_tokens=4) == ["ab", "c", "", ""]
    assert answer(["ab", "c"], completion_tokens=99, room=3) == ["ab", "c", ""]


def test_last_delta_takes_all_the_rest() -> None:
    assert answer(["a", "b", "c", "d"], room=2) == ["a", "bcd"]
    assert answer(["a", "b", "c"], room=1) == ["abc"]


def test_no_part_of_a_stop_string_is_shown() -> None:
    assert answer(["a E", "N", "D b"], stops=("END",)) == ["a ", "", ""]
    assert answer(["a E", "N", " b"], stops=("END",)) == ["a ", "", "EN b"]
    assert answer(["a E", "N"], stops=("END",)) == ["a ", "EN"]


@given(st.lists(st.text("abE", min_size=1)), st.integers(1, 8), st.sampled_from([(), ("ab",), ("EE", "ba")]))
def test_text_ends_before_a_stop_string(pieces: list[str], room: int, stops: tuple[str, ...]) -> None:
    texts = answer(pieces, room=room, stops=stops)
    whole = "".join(pieces)
    ends = [at for at in map(whole.find, stops) if at >= 0]
    found = "".join(texts)
    assert len(texts) <= room
    if not ends:
        assert found == whole
    else:
        assert whole.startswith(found)
        assert not any(stop in found for stop in stops)


def test_stop_string_counts_from_the_least_length_on() -> None:
    made = UpstreamAnswer(("b",), 8, least=3)
    shown = [delta.text for piece in "abcabc" for delta in made.take(Chunk(piece))]
    assert "".join(shown + [delta.text for delta in made.close()]) == "abca"
    assert made.finish == "stop"


def test_more_text_than_tokens_can_hold_is_refused() -> None:
    made = UpstreamAnswer((), 2)
    with pytest.raises(TextOverrun):
        made.take(Chunk("x" * 5000))


CHAT_SCORES = {
    "content": [
        {
            "token": " a",
            "logprob": -0.5,
            "bytes": [32, 97],
            "top_logprobs": [
                {"token": " a", "logprob": -0.5, "bytes": [32, 97]},
                {"token": "é", "logprob": -1.5, "bytes": None},
            ],
        },
        {"token": "b", "logprob": -0.25, "bytes": None, "top_logprobs": None},
    ]
}
OLD_SCORES = {
    "tokens": [" a", "b"],
    "token_logprobs": [-0.5, -0.25],
    "top_logprobs": [{"é": -1.5, " a": -0.5}, None],
    "text_offset": [0, 2],
}


@pytest.mark.parametrize(
    "choice",
    [{"delta": {"content": " ab"}, "logprobs": CHAT_SCORES}, {"text": " ab", "logprobs": OLD_SCORES}],
    ids=["chat", "completion"],
)
def test_logprobs_of_a_chunk_become_deltas_of_their_own(choice: dict[str, object]) -> None:
    [chunk] = ChunkReader(with_logprobs=True).feed(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
    made = UpstreamAnswer((), 8, top_logprobs=1)
    shown = [*made.take(chunk), *made.take(Chunk("c")), *made.take(Chunk(finish="stop")), *made.close()]
    assert [delta.text for delta in shown] == [" ab", "", "c"]
    found = [delta.extra.logprob for delta in shown if delta.extra is not None and delta.extra.logprob is not None]
    assert found == [
        TokenLogprob(b" a", -0.5, (TopLogprob(NO_TOKEN, b" a", -0.5),)),
        TokenLogprob(b"b", -0.25),
    ]


@given(st.lists(st.integers(0, 4), max_size=8), st.integers(1, 12))
def test_more_logprobs_than_room_add_no_delta(scores: list[int], room: int) -> None:
    """Whatever an upstream says of probabilities, the answer has as many tokens as were asked for, at most."""
    made = UpstreamAnswer(("stop",), room)
    chunks = [Chunk("st", logprobs=(TokenLogprob(b"x", -1.0),) * number) for number in scores]
    shown = [delta for chunk in chunks for delta in made.take(chunk)] + made.close()
    assert len(shown) <= room
    assert "".join(delta.text for delta in shown) == "st" * len(scores)


STREAM = (
    b": ping\n\nid: 4\nevent: message\ndata: "
    + json.dumps({"choices": [{"delta": {"role": "assistant", "content": "hé"}, "logprobs": None}]}).encode()
    + b'\n\ndata:{"choices":[{"text":"llo"}]}\r\n\r\ndata: {"choices":[{"index":1,"text":"other"}]}\n\n'
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,'
    b'"prompt_tokens_details":{"audio_tokens":null,"cached_tokens":2}}}\n\n'
    b"data: [DONE]\n\ndata: {bad\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_chunks_are_the_same_in_any_split(cuts: list[int]) -> None:
    reader, places = ChunkReader(), [0, *sorted(cuts), len(STREAM)]
    found = [chunk for a, b in pairwise(places) for chunk in reader.feed(STREAM[a:b])]
    assert found == [
        Chunk("hé"),
        Chunk("llo"),
        Chunk(""),
        Chunk("", "stop"),
        Chunk("", None, 3, 2, cached_tokens=2),
        Chunk(done=True),
    ]


@pytest.mark.parametrize("data", [b"[]", b'{"choices":3}', b'"text"', b'{"choices":[{"text":7}]}', b"\xff"])
def test_malformed_chunk_is_an_error(data: bytes) -> None:
    with pytest.raises(BadChunk):
        ChunkReader().feed(b"data: " + data + b"\n\n")


@pytest.mark.parametrize("error", [{"message": "no"}, "no", {"error": {"message": "no"}}])
def test_errors_are_read_in_any_shape(error: object) -> None:
    chunks = ChunkReader().feed(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
    assert chunks == [Chunk(error={"message": "no"})]


@pytest.mark.parametrize(
    "event",
    [
        b'error: {"message":"no"}',
        b'event: error\ndata: {"message":"no"}',
        b'event: error\ndata: {"error":{"message":"no"}}',
    ],
)
def test_error_events_are_errors(event: bytes) -> None:
    assert ChunkReader().feed(event + b"\n\n") == [Chunk(error={"message": "no"})]


def test_endless_line_is_refused() -> None:
    with pytest.raises(BadChunk, match="longer than"):
        ChunkReader().feed(b"data: " + b"x" * (2 << 20))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": formatdate(1030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(10, usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_parsed(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, 1000.0) == seconds


@pytest.mark.parametrize("room", [2, 3, 64])
def test_log_names_the_stop_string(room: int) -> None:
    """On the token that completed the stop string, also where tokens without text follow, or the room is used up."""
    made = UpstreamAnswer(("END",), room)
    deltas = [delta for piece in ("a E", "ND b") for delta in made.take(Chunk(piece, completion_tokens=room))]
    deltas += made.close()
    assert [delta.extra.stop for delta in deltas if delta.extra is not None] == ["END"]
    assert deltas[1].extra is not None
    assert len(deltas) == room


def test_reasoning_and_calls_have_deltas_of_their_own() -> None:
    events = [
        {"reasoning_content": "h"},
        {"reasoning": "m"},
        {"content": "yes"},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}], "content": None},
    ]
    lines = b"".join(b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta}]}).encode() for delta in events)
    chunks = ChunkReader().feed(lines)
    made = UpstreamAnswer((), 64)
    deltas = [delta for chunk in chunks for delta in made.take(chunk)]
    assert deltas == [
        TokenDelta(NO_TOKEN, "", TokenExtra(reasoning="h")),
        TokenDelta(NO_TOKEN, "", TokenExtra(reasoning="m")),
        TokenDelta(NO_TOKEN, "yes"),
        TokenDelta(NO_TOKEN, "", TokenExtra(tool_calls=(ToolCallDelta(0, "a", "f"),))),
        TokenDelta(NO_TOKEN, "", TokenExtra(tool_calls=(ToolCallDelta(0, arguments="{}"),))),
    ]
    made.take(Chunk(finish="tool_calls"))
    assert (made.close(), made.finish) == ([], "stop")


def test_text_behind_a_finish_reason_is_kept() -> None:
    made = UpstreamAnswer((), 8)
    deltas = [delta for text in ("a", "b") for delta in made.take(Chunk(text, "stop"))]
    assert "".join(delta.text for delta in [*deltas, *made.close()]) == "ab"


@pytest.mark.parametrize(
    ("last", "trusts_end", "finish"),
    [
        ([Chunk("a")], False, None),
        ([Chunk("a")], True, "stop"),
        ([], True, None),
        ([Chunk("a"), Chunk(completion_tokens=1)], False, "stop"),
        ([Chunk("a"), Chunk(completion_tokens=8)], False, "length"),
        ([Chunk("a", completion_tokens=1)], False, None),
    ],
)
def test_end_without_a_reason_needs_a_proof(last: list[Chunk], trusts_end: bool, finish: str | None) -> None:
    """Counts in each chunk prove nothing: only counts behind the last text are from an upstream at its end."""
    made = UpstreamAnswer((), 8)
    for chunk in last:
        made.take(chunk)
    assert made.finish_without_reason(trusts_end=trusts_end) == (finish is not None)
    assert made.finish == finish


def test_texts_behind_the_last_token_take_linear_time() -> None:
    made = UpstreamAnswer((), 2048)
    texts = [f"{number:9}" * 10 for number in range(17_000)]
    began = time.thread_time()
    shown = [delta for text in texts for delta in made.take(Chunk(text))]
    assert "".join(delta.text for delta in shown + made.close()) == "".join(texts)
    assert time.thread_time() - began < 0.5


def test_endless_chunks_without_content_are_refused() -> None:
    made = UpstreamAnswer((), 2)
    for _ in range(1016):
        made.take(Chunk(""))
    with pytest.raises(TextOverrun):
        made.take(Chunk(""))


@given(room=st.integers(1, 6), stops=st.sampled_from([(), ("b",)]))
def test_last_delta_takes_the_rest_of_a_call(room: int, stops: tuple[str, ...]) -> None:
    made = UpstreamAnswer(stops, room)
    deltas = made.take(Chunk("a"))
    for text in "{}  ":
        deltas += made.take(Chunk(tool_calls=(ToolCallDelta(0, arguments=text),)))
    made.take(Chunk(finish="length"))
    deltas += made.close()
    calls = [call for delta in deltas if delta.extra for call in delta.extra.tool_calls]
    assert "".join(call.arguments for call in calls) == "{}  "
    assert "".join(delta.text for delta in deltas) == "a"
    assert len(deltas) <= room


def test_first_delta_names_the_model() -> None:
    """Also beside reasoning. An answer without a token names none, and gets no token for that."""
    made = UpstreamAnswer((), 64, model="other")
    deltas = [delta for chunk in (Chunk(reasoning="h"), Chunk("a"), Chunk("b")) for delta in made.take(chunk)]
    assert deltas[0].extra == TokenExtra(reasoning="h", model="other")
    assert [delta.extra for delta in deltas[1:]] == [None, None]
    assert UpstreamAnswer((), 64, model="other").close() == []


def test_plain_chunks_are_taken_as_all_chunks_are() -> None:
    quick, slow = UpstreamAnswer((), 100), UpstreamAnswer((), 100)
    chunks = [Chunk(" a"), Chunk(" b"), Chunk(" c")]
    deltas = [delta for chunk in chunks for delta in slow.take(chunk)]
    assert quick.take_plain(chunks) == deltas
    last = Chunk(" d", "stop", completion_tokens=4)
    assert quick.take(last) == slow.take(last)
    assert quick.close() == slow.close()


@pytest.mark.parametrize(
    ("answer", "chunks"),
    [
        (UpstreamAnswer(("x",), 100), [Chunk(" a")]),
        (UpstreamAnswer((), 1), [Chunk(" a")]),
        (UpstreamAnswer((), 2), [Chunk(" a"), Chunk(" b")]),
        (UpstreamAnswer((), 100, model="m"), [Chunk(" a")]),
        (UpstreamAnswer((), 100), [Chunk("")]),
        (UpstreamAnswer((), 100), [Chunk(" a"), Chunk(" b", "stop")]),
        (UpstreamAnswer((), 100), [Chunk(" a", completion_tokens=1)]),
        (UpstreamAnswer((), 100), [Chunk(" a", reasoning="b")]),
        (UpstreamAnswer((), 100), [Chunk(" a", done=True)]),
        (UpstreamAnswer((), 100), [Chunk("a" * 200_000)]),
    ],
)
def test_other_chunks_are_not_taken_as_plain(answer: UpstreamAnswer, chunks: list[Chunk]) -> None:
    before = repr(answer)
    assert len(answer.take_plain(chunks)) == len(chunks) - 1
    assert answer.take_plain(chunks, len(chunks) - 1) == []
    assert repr(answer) == before.replace(" 0 of", f" {len(chunks) - 1} of")
