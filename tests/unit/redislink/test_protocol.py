"""Replies are matched with their commands, however the bytes are split."""

import itertools
import math
import socket
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers.encoders import Encoder
from redis._parsers.resp3 import _RESP3Parser
from redis.exceptions import ResponseError

from llmactors.redislink.errors import ProtocolError, ReplyError
from llmactors.redislink.protocol import Pipeline, pack, pushes_expected

_LINE = st.binary(max_size=12).filter(lambda text: b"\r" not in text and b"\n" not in text)


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


SCALARS = st.one_of(
    _LINE.map(lambda text: b"+" + text + b"\r\n"),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b":%d\r\n" % number),
    st.binary(max_size=40).map(_bulk),
    st.floats(allow_nan=False).map(lambda number: b",%b\r\n" % repr(number).encode()),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b"=7\r\ntxt:abc\r\n"]),
)
ERRORS = st.sampled_from([b"-ERR no such thing\r\n", b"-WRONGTYPE not a list\r\n", b"-ERR Function not found\r\n"])


def _many(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    items = st.lists(inner, max_size=4)
    pairs = st.dictionaries(st.binary(max_size=5), inner, max_size=3)
    return st.one_of(
        items.map(lambda parts: b"*%d\r\n" % len(parts) + b"".join(parts)),
        items.map(lambda parts: b"~%d\r\n" % len(parts) + b"".join(parts)),
        pairs.map(lambda parts: b"%%%d\r\n" % len(parts) + b"".join(_bulk(k) + v for k, v in parts.items())),
    )


REPLIES = st.recursive(SCALARS | ERRORS, _many, max_leaves=8)
PUSHES = st.lists(st.binary(max_size=10), min_size=1, max_size=3).map(
    lambda parts: b">%d\r\n" % (len(parts) + 1) + _bulk(b"message") + b"".join(map(_bulk, parts))
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    return draw(st.lists(REPLIES | PUSHES, max_size=8))


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def _plain(value: Any) -> Any:
    """A reply that can be compared: an error becomes its text."""
    match value:
        case ReplyError() | ResponseError():
            return ("error", (value.text if isinstance(value, ReplyError) else str(value)).split()[-1])
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case float() if math.isnan(value):
            return "nan"
        case _:
            return value


def _talk(chunks: list[bytes], commands: int) -> tuple[list[Any], str | None]:
    pipeline: Pipeline[int] = Pipeline()
    for number in range(commands):
        pipeline.expect(number)
    events: list[Any] = []
    try:
        for chunk in chunks:
            for token, reply in pipeline.receive(chunk):
                events.append((token, _plain(reply)))
    except ProtocolError as error:
        return events, error.message
    return events, None


@given(parts=streams(), cuts=st.lists(st.integers(0, 10_000), max_size=30))
def test_any_split_of_the_bytes_gives_the_same_replies(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    commands = sum(not part.startswith(b">") for part in parts)
    whole = _talk([data], commands)
    assert whole[1] is None
    assert len(whole[0]) == len(parts)
    assert [token for token, _ in whole[0] if token is not None] == list(range(commands))
    assert _talk(_split(data, cuts), commands) == whole
    assert _talk([data[at : at + 1] for at in range(len(data))], commands) == whole


@given(parts=streams())
def test_replies_equal_those_of_redis_py(parts: list[bytes]) -> None:
    data = b"".join(parts)
    commands = sum(not part.startswith(b">") for part in parts)
    ours, fault = _talk([data], commands)
    parser: Any = _RESP3Parser(65536)  # type: ignore[no-untyped-call]
    near, far = socket.socketpair()
    with near, far:
        far.sendall(data)
        near.settimeout(5)
        encoder = Encoder("utf-8", "strict", False)  # type: ignore[no-untyped-call]
        parser.on_connect(SimpleNamespace(_sock=near, socket_timeout=5, encoder=encoder))
        parser.pubsub_push_handler_func = lambda push: push
        theirs = [_plain(parser.read_response(disable_decoding=True, push_request=True)) for _ in parts]
        parser.on_disconnect()
    assert fault is None
    assert [reply for _, reply in ours] == theirs


@given(before=streams(), garbage=st.binary(max_size=60), cuts=st.lists(st.integers(0, 10_000), max_size=10))
def test_garbage_is_a_protocol_error_or_incomplete(before: list[bytes], garbage: bytes, cuts: list[int]) -> None:
    data = b"".join(before)
    commands = sum(not part.startswith(b">") for part in before)
    good, _ = _talk([data], commands)
    events, fault = _talk(_split(data + garbage, cuts), commands)
    assert events[: len(good)] == good
    if fault is not None:
        assert "\n" not in fault
        assert len(fault) < 200


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b":abc\r\n",
        b"$x\r\n",
        b"*z\r\n",
        b"%1\r\n*0\r\n+a\r\n",
        b"\x16\x03\x01\x00\r\n",
    ],
)
def test_replies_before_malformed_bytes_are_delivered(data: bytes) -> None:
    pipeline: Pipeline[str] = Pipeline()
    pipeline.expect("first")
    pipeline.expect("second")
    seen = []
    with pytest.raises(ProtocolError, match="not RESP3"):  # noqa: PT012 - it raises in the loop
        for token, reply in pipeline.receive(b"+OK\r\n" + data):
            seen.append((token, reply))
    assert seen == [("first", b"OK")]


def test_reply_to_no_command_is_a_protocol_error() -> None:
    pipeline: Pipeline[str] = Pipeline()
    with pytest.raises(ProtocolError, match="to no command"):
        list(pipeline.receive(b"+OK\r\n"))


def _push(*parts: bytes) -> bytes:
    return b">%d\r\n" % len(parts) + b"".join(map(_bulk, parts[:-1])) + b":1\r\n"


def test_pushes_answer_a_subscription_in_its_place() -> None:
    pipeline: Pipeline[str] = Pipeline()
    pipeline.expect("get")
    pipeline.expect("subscribe", pushes_expected(("SUBSCRIBE", "a", "b")))
    pipeline.expect("set")
    message = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"
    data = b"+1\r\n" + _push(b"subscribe", b"a", b"") + message + _push(b"subscribe", b"b", b"") + b"+OK\r\n"
    events = list(pipeline.receive(data))
    assert [token for token, _ in events] == ["get", None, None, None, "subscribe", "set"]
    assert events[4][1] == [b"subscribe", b"b", 1]


def test_refused_subscription_keeps_the_reply_order() -> None:
    pipeline: Pipeline[str] = Pipeline()
    pipeline.expect("subscribe", 1)
    pipeline.expect("get")
    pipeline.expect("again", 1)
    events = list(pipeline.receive(b"-NOPERM no\r\n+1\r\n" + _push(b"subscribe", b"a", b"")))
    assert [token for token, _ in events] == ["subscribe", "get", None, "again"]
    assert isinstance(events[0][1], ReplyError)


@pytest.mark.parametrize("name", ["MONITOR", b"monitor", "reset", "QUIT", b"HELLO", "SYNC"])
def test_commands_that_disturb_others_are_refused(name: bytes | str) -> None:
    with pytest.raises(ValueError, match="many tasks share"):
        pushes_expected((name,))


def test_of_client_commands_only_client_reply_is_refused() -> None:
    with pytest.raises(ValueError, match="CLIENT REPLY"):
        pushes_expected(("CLIENT", b"reply", "off"))
    assert pushes_expected((b"CLIENT", "ID")) == 0
    with pytest.raises(ValueError, match="names of its channels"):
        pushes_expected(("UNSUBSCRIBE",))


@given(args=st.lists(st.binary(max_size=30) | st.text(max_size=10) | st.integers(), min_size=1, max_size=6))
def test_packed_command_is_read_back_equal(args: list[Any]) -> None:
    reader = hiredis.Reader()
    reader.feed(pack(*args))
    expected = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    assert reader.gets() == expected
