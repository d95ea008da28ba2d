"""Right answers pass the check in any split, and no other answers pass."""

from collections.abc import Callable, Sequence

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.mock.oracle import mock_text
from llmactors.load.check import check
from llmactors.load.http_recording import HttpRecording
from llmactors.load.plan import Api, Check, Plan
from llmactors.load.recording import Malformed, Recording
from llmactors.load.socket_recording import BadFrame, SocketRecording
from llmactors.load.target import Target
from llmactors.load.token_times import TokenTimes
from llmactors.messages import GenerateRequest
from tests.support.canned_answers import (
    Fault,
    chat_events,
    chunked,
    frame,
    lose,
    native_error,
    native_events,
    repeat,
    sized,
    socket_frames,
    swap,
)
from tests.support.splits import splits

TOKENS = 6
PLAN = Plan(target=Target("127.0.0.1", 1, "127.0.0.1:1"), check=Check.MOCK, max_tokens=TOKENS)
INDEX = 4
PROMPT = PLAN.prompt_of(INDEX)


@attrs.frozen
class Route:
    """One kind of answer, and how to record a right one."""

    plan: Plan
    events: Callable[[], list[bytes]]
    join: Callable[[Sequence[bytes]], bytes]
    answer: Callable[[int, float], Recording]


ROUTES = {
    "native": Route(PLAN, lambda: native_events(PROMPT, INDEX, TOKENS), chunked, HttpRecording),
    "ws": Route(
        attrs.evolve(PLAN, api=Api.WS),
        lambda: socket_frames(native_events(PROMPT, INDEX, TOKENS))[1:],
        lambda frames: b"".join([frame(b'{"event":"accepted","id":"req_1"}'), *frames]),
        SocketRecording,
    ),
    "chat": Route(attrs.evolve(PLAN, api=Api.CHAT), lambda: chat_events(PROMPT, INDEX, TOKENS), chunked, HttpRecording),
    "chat with CRLF": Route(
        attrs.evolve(PLAN, api=Api.CHAT),
        lambda: chat_events(PROMPT, INDEX, TOKENS, line_end=b"\r\n"),
        chunked,
        HttpRecording,
    ),
}
routes = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)


def take(route: Route, pieces: Sequence[bytes]) -> TokenTimes:
    """Feeds pieces, the n-th at time n. Only the last one may complete the answer."""
    answer = route.answer(INDEX, 0.0)
    complete = [answer.feed(piece, float(number)) for number, piece in enumerate(pieces, 1)]
    assert complete == [False] * (len(pieces) - 1) + [True]
    return check(route.plan, answer)


@routes
@given(cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_answer_is_the_same_in_any_split(route: Route, cuts: list[int]) -> None:
    raw = route.join(route.events())
    pieces = splits(raw, cuts)
    found = take(route, pieces)
    assert found.tokens == len(found.times) == sum(found.per_chunk) == TOKENS
    assert found.times == sorted(found.times)
    # A token came with the piece that holds the last byte of its event.
    ends = [raw.index(event.rstrip()) + len(event.rstrip()) for event in route.events()[:TOKENS]]
    reached = [sum(len(piece) for piece in pieces[: int(time)]) for time in found.times]
    before = [sum(len(piece) for piece in pieces[: int(time) - 1]) for time in found.times]
    assert all(end <= total for end, total in zip(ends, reached, strict=True))
    assert all(start < end + 4 for end, start in zip(ends, before, strict=True))


def test_tokens_are_counted_per_chunk() -> None:
    events = native_events(PROMPT, INDEX, TOKENS)
    pieces = [b"".join(events[:3]), events[3], b"".join(events[4:])]
    assert take(ROUTES["native"], [chunked(pieces)]).per_chunk == [3, 1, 2]


@routes
@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (lose(0), {"wrong_seq", "wrong_token"}),
        (lose(2), {"wrong_seq", "wrong_token"}),
        (lose(TOKENS - 1), {"wrong_seq", "wrong_token", "wrong_length"}),
        (repeat(0), {"wrong_seq", "wrong_token"}),
        (repeat(TOKENS - 1), {"wrong_seq", "wrong_length"}),
        (swap(1), {"wrong_seq", "wrong_token"}),
        (lambda events: [*events[:3], *events[TOKENS:]], {"wrong_seq", "wrong_token"}),
    ],
    ids=["first lost", "third lost", "last lost", "first twice", "last twice", "swapped", "half lost"],
)
def test_lost_repeated_and_swapped_tokens_are_seen(route: Route, fault: Fault, kinds: set[str]) -> None:
    with pytest.raises(Malformed) as caught:
        take(route, [route.join(fault(route.events()))])
    assert caught.value.kind in kinds


def renumber(events: list[bytes], lost: int) -> list[bytes]:
    """The events of a server that lost a token before it numbered the tokens: seqs and usage fit."""
    texts = native_events(PROMPT, INDEX, TOKENS)
    kept = texts[:lost] + texts[lost + 1 : TOKENS]
    payloads = [msgspec.json.decode(event.split(b"data: ")[1]) for event in kept]
    renamed = [
        b"id: %d\nevent: token\ndata: %b\n\n" % (seq, msgspec.json.encode({**payload, "seq": seq}))
        for seq, payload in enumerate(payloads, 1)
    ]
    return [*renamed, native_events(PROMPT, INDEX, TOKENS - 1)[-1]]


@pytest.mark.parametrize("lost", [0, 2, TOKENS - 1])
def test_token_lost_before_its_number_is_seen(lost: int) -> None:
    raw = chunked(renumber([], lost))
    with pytest.raises(Malformed) as caught:
        take(ROUTES["native"], [raw])
    assert caught.value.kind in {"wrong_token", "wrong_length"}
    if lost:  # without the oracle only the server's own numbers are compared
        shape = attrs.evolve(ROUTES["native"], plan=attrs.evolve(PLAN, check=Check.SHAPE))
        assert take(shape, [raw]).tokens == TOKENS - 1


@pytest.mark.parametrize("name", ["native", "chat", "chat with CRLF"])
@pytest.mark.parametrize("missing", range(1, TOKENS + 2))
def test_answer_without_its_last_event_is_malformed(name: str, missing: int) -> None:
    route = ROUTES[name]
    with pytest.raises(Malformed) as caught:
        take(route, [route.join(route.events()[:-missing])])
    assert caught.value.kind == "no_end"


@routes
@given(data=st.data())
def test_cut_answer_is_never_complete(route: Route, data: st.DataObject) -> None:
    raw = route.join(route.events())
    answer = route.answer(INDEX, 0.0)
    cut = data.draw(st.integers(1, len(raw) - 1))
    assert not answer.feed(raw[:cut], 1.0)
    assert not answer.feed_eof()


def test_cut_event_in_a_complete_body_is_seen() -> None:
    events = native_events(PROMPT, INDEX, TOKENS)
    with pytest.raises(Malformed) as caught:
        take(ROUTES["native"], [chunked([*events[:2], events[2][:-1]])])
    assert caught.value.kind == "cut_event"


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (lambda: [*native_events(PROMPT, INDEX, TOKENS), native_events(PROMPT, INDEX, TOKENS)[0]], "event_after_end"),
        (lambda: [*native_events(PROMPT, INDEX, TOKENS)[:2], native_error(3, "POISONED")], "stream_error"),
        (lambda: native_events(PROMPT, INDEX, TOKENS - 1), "wrong_length"),
        (lambda: native_events(PROMPT, INDEX, TOKENS + 1), "wrong_length"),
        (lambda: native_events(PROMPT + "!", INDEX, TOKENS), "wrong_token"),
        (
            lambda: [
                *native_events(PROMPT, INDEX, TOKENS)[:3],
                *native_events(PROMPT, INDEX, TOKENS, request_id="req_2")[3:],
            ],
            "wrong_id",
        ),
        (lambda: [*native_events(PROMPT, INDEX, TOKENS)[:-1], native_events(PROMPT, INDEX, 5)[-1]], "wrong_seq"),
        (lambda: [b"event: token\ndata: {}\n\n"], "wrong_seq"),
        (lambda: [b"id: 1\nevent: token\ndata: {\n\n"], "malformed_event"),
        (lambda: [b"nonsense\n\n"], "no_end"),
    ],
)
def test_each_mistake_has_its_class(events: Callable[[], list[bytes]], kind: str) -> None:
    with pytest.raises(Malformed) as caught:
        take(ROUTES["native"], [chunked(events())])
    assert caught.value.kind == kind


def test_comments_are_skipped() -> None:
    events = native_events(PROMPT, INDEX, TOKENS)
    assert take(ROUTES["native"], [chunked([b": keep-alive\n\n", *events])]).tokens == TOKENS


def test_error_in_a_chat_stream_has_its_code() -> None:
    error = b'data: {"error":{"message":"no","code":"INTERRUPTED"}}\n\n'
    with pytest.raises(Malformed) as caught:
        take(ROUTES["chat"], [chunked([*chat_events(PROMPT, INDEX, TOKENS)[:2], error])])
    assert (caught.value.kind, caught.value.code) == ("stream_error", "INTERRUPTED")


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"error":{"code":"OVERLOADED","message":"full"}}', "OVERLOADED"), (b"full", ""), (b"[]", "")],
)
@pytest.mark.parametrize("status", [429, 503])
def test_refusal_has_its_status_and_code(body: bytes, code: str, status: int) -> None:
    with pytest.raises(Malformed) as caught:
        take(ROUTES["native"], [sized(body, status=f"{status} No")])
    assert (caught.value.kind, caught.value.code, caught.value.refusal) == (f"http_{status}", code, True)


def whole(text: str, tokens: int = TOKENS) -> bytes:
    usage = {"prompt_tokens": 2, "completion_tokens": tokens, "total_tokens": tokens + 2}
    answer = {"id": "req_1", "model": "mock", "text": text, "finish_reason": "length", "usage": usage}
    return msgspec.json.encode(answer)


def test_whole_answer_must_be_the_oracles_text() -> None:
    route = attrs.evolve(ROUTES["native"], plan=attrs.evolve(PLAN, api=Api.NATIVE_JSON))
    text = mock_text(GenerateRequest("", "mock", PROMPT, max_tokens=TOKENS, seed=INDEX))
    assert take(route, [sized(whole(text))]) == TokenTimes(TOKENS, [], [])
    for wrong in (text[:-1], text + "x", text[1:], text[:5] + text):
        with pytest.raises(Malformed):
            take(route, [sized(whole(wrong))])
    with pytest.raises(Malformed) as caught:
        take(route, [sized(whole(text, TOKENS - 1))])
    assert caught.value.kind == "wrong_length"


def test_body_without_length_ends_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    for count, is_whole in ((TOKENS + 3, True), (TOKENS, False)):
        answer = HttpRecording(INDEX, 0.0)
        assert not answer.feed(head + b"".join(chat_events(PROMPT, INDEX, TOKENS)[:count]), 1.0)
        assert answer.feed_eof()
        if is_whole:
            assert check(ROUTES["chat"].plan, answer).tokens == TOKENS
        else:
            with pytest.raises(Malformed):
                check(ROUTES["chat"].plan, answer)


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-5\r\nabc\r\n", b"3\r\nabcd\r\n"])
def test_malformed_chunks_are_seen(chunks: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(Malformed) as caught:
        take(ROUTES["native"], [head + chunks + b"\r\n0\r\n\r\n"])
    assert caught.value.kind == "malformed_chunk"


def test_ping_between_messages_is_kept() -> None:
    answer = SocketRecording(INDEX, 0.0)
    frames = socket_frames(native_events(PROMPT, INDEX, TOKENS))
    assert answer.feed(b"".join([*frames[:3], frame(b"hello", 9), *frames[3:]]), 1.0)
    assert answer.pings == [b"hello"]
    assert check(ROUTES["ws"].plan, answer).tokens == TOKENS


def test_early_close_frame_completes_nothing() -> None:
    answer = SocketRecording(INDEX, 0.0)
    frames = socket_frames(native_events(PROMPT, INDEX, TOKENS))
    assert not answer.feed(b"".join([*frames[:3], frame(b"\x03\xe9", 8)]), 1.0)
    assert answer.closing


@pytest.mark.parametrize("head", [b"\x01\x02", b"\x81\x82", b"\xc1\x02", b"\x82\x02"])
def test_unexpected_frames_are_refused(head: bytes) -> None:
    with pytest.raises(BadFrame):
        SocketRecording(INDEX, 0.0).feed(head, 1.0)
