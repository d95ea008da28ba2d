"""The parser of responses: the same result however the bytes are split, an error for whatever is no response."""

import json
from collections.abc import Sequence

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.response import ResponseLimits, ResponseParser
from tests.support.splits import splits

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@attrs.define
class Parsed:
    status: int
    body: bytes
    rest: bytes
    complete: bool
    keep_alive: bool


def parse(*reads: bytes, method: str = "GET", eof: bool = False, limits: ResponseLimits | None = None) -> Parsed:
    parser = ResponseParser(method, limits or ResponseLimits())
    body = b"".join(piece for read in reads for piece in parser.feed(read))
    if eof:
        parser.feed_eof()
    assert parser.head is not None
    return Parsed(parser.head.status, body, parser.rest, parser.complete, parser.head.keep_alive)


def chunked(pieces: Sequence[bytes], trailers: bytes = b"") -> bytes:
    return b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n", trailers, b"\r\n"])


PIECES = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\r"]), max_size=8)
CUTS = st.lists(st.integers(0, 10_000), max_size=40)


@given(pieces=PIECES, cuts=CUTS, trailers=st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: 1\r\nB: 2\r\n"]))
def test_chunked_body_is_the_same_in_any_split(pieces: list[bytes], cuts: list[int], trailers: bytes) -> None:
    raw = CHUNKED + chunked(pieces, trailers)
    assert parse(*splits(raw, cuts)) == Parsed(200, b"".join(pieces), b"", complete=True, keep_alive=True)


@given(body=st.binary(max_size=60), cuts=CUTS)
def test_sized_body_is_the_same_in_any_split(body: bytes, cuts: list[int]) -> None:
    raw = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert parse(*splits(raw, cuts)) == Parsed(200, body, b"", complete=True, keep_alive=True)


@given(body=st.binary(max_size=60), cuts=CUTS)
def test_body_without_length_ends_with_the_connection(body: bytes, cuts: list[int]) -> None:
    raw = OK + b"\r\n" + body
    assert not parse(*splits(raw, cuts)).complete
    assert parse(*splits(raw, cuts), eof=True) == Parsed(200, body, b"", complete=True, keep_alive=False)


@given(pieces=PIECES, cuts=CUTS)
def test_each_chunk_is_a_piece_and_is_counted(pieces: list[bytes], cuts: list[int]) -> None:
    """The pieces of one read belong to consecutive chunks, from the one that was open before the read."""
    parser = ResponseParser()
    found = [b""] * len(pieces)
    for read in splits(CHUNKED + chunked(pieces), cuts):
        first = parser.chunks_ended
        for number, piece in enumerate(parser.feed(read), first):
            found[number] += piece
    assert found == pieces
    assert parser.chunks_ended == len(pieces)


@given(
    status=st.integers(200, 599).filter(lambda status: status not in {204, 304}),
    headers=st.dictionaries(
        st.sampled_from(["X-One", "x-two", "Retry-After", "Server"]), st.from_regex(r"\A[!-~]([ -~]*[!-~])?\Z")
    ),
    pieces=PIECES,
    cuts=CUTS,
)
def test_responses_of_h11_are_read(status: int, headers: dict[str, str], pieces: list[bytes], cuts: list[int]) -> None:
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.next_event(), server.next_event()
    framed = [*headers.items(), ("Transfer-Encoding", "chunked")]
    events: list[h11.Event] = [h11.Response(status_code=status, headers=framed)]
    events += [h11.Data(data=piece) for piece in pieces]
    raw = b"".join(server.send(event) or b"" for event in [*events, h11.EndOfMessage()])
    parser = ResponseParser()
    body = b"".join(piece for read in splits(raw, cuts) for piece in parser.feed(read))
    assert parser.complete
    assert parser.head is not None
    assert (parser.head.status, body) == (status, b"".join(pieces))
    assert {**parser.head.headers} == {name.lower(): value for name, value in framed}


def test_interim_responses_are_skipped() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi"
    for at in range(1, len(raw)):
        assert parse(raw[:at], raw[at:]).body == b"hi"


def test_endless_interim_responses_are_refused() -> None:
    with pytest.raises(BadResponse, match="interim"):
        parse(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    raw = b"HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\n" % status
    assert parse(raw) == Parsed(status, b"", b"", complete=True, keep_alive=True)


def test_head_has_a_length_and_no_body() -> None:
    assert parse(OK + b"Content-Length: 5\r\n\r\n", method="HEAD").complete
    assert parse(CHUNKED, method="HEAD").complete


def test_switched_protocols_leave_the_rest() -> None:
    parsed = parse(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    assert (parsed.status, parsed.rest, parsed.complete) == (101, b"\x81\x00", True)


def test_accepted_tunnel_has_no_body() -> None:
    assert parse(OK + b"\r\n", method="CONNECT").complete
    assert not parse(b"HTTP/1.1 403 No\r\n\r\n", method="CONNECT").complete


def test_bytes_behind_the_end_are_kept_apart() -> None:
    assert parse(OK + b"Content-Length: 2\r\n\r\nhi!!").rest == b"!!"
    assert parse(CHUNKED + b"2\r\nhi\r\n0\r\n\r\n!!", b"?").rest == b"!!?"


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ],
)
def test_reuse_follows_version_and_connection(head: bytes, *, keep_alive: bool) -> None:
    assert (parse(head).complete, parse(head).keep_alive) == (True, keep_alive)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 Sch\xf6n\r\nX: \xff\r\nContent-Length:2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2 \t\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n02 ;name="v"\r\nhi\r\n000\r\n\r\n',
    ],
)
def test_unusual_responses_are_read(raw: bytes) -> None:
    assert (parse(raw).body, parse(raw).complete) == (b"hi", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"bad name: x\r\n\r\n",
        OK + b": x\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: a\nY: b\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 1, 2\r\n\r\n",
        OK + b"Content-Length: 0x10\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-5\r\nabc\r\n",
        CHUNKED + b"+5\r\nabcde\r\n",
        CHUNKED + b"0x3\r\nabc\r\n",
        CHUNKED + b"1_0\r\nabc\r\n",
        CHUNKED + b"3\nabc\n",
        CHUNKED + b"\r\n3\r\nabc\r\n",
        CHUNKED + b"3\r\nabcd\r\n",
        CHUNKED + b"3\r\nabc\n",
        CHUNKED + b"1234567890123456\r\n",
    ],
)
def test_malformed_responses_are_refused_in_any_split(raw: bytes) -> None:
    for at in range(1, len(raw)):
        with pytest.raises(BadResponse):
            parse(raw[:at], raw[at:])


@pytest.mark.parametrize(
    "flood",
    [
        b"x" * 500,
        OK + b"X: y\r\n" * 20 + b"\r\n",
        OK + b"X: " + b"y" * 500 + b"\r\n\r\n",
        CHUNKED + b"5;" + b"x" * 2000,
        CHUNKED + b"ffffff\r\n",
        CHUNKED + b"10\r\n0123456789abcdef\r\n" * 10,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 200,
        OK + b"Content-Length: 101\r\n\r\n",
        OK + b"\r\n" + b"x" * 101,
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_every_part_of_a_response_is_bounded(flood: bytes, step: int) -> None:
    limits = ResponseLimits(head_bytes=200, headers=10, body_bytes=100)
    with pytest.raises(BadResponse):
        parse(*[flood[at : at + step] for at in range(0, len(flood), step)], limits=limits)


@given(st.binary(max_size=200), CUTS)
def test_any_bytes_raise_only_documented_errors(data: bytes, cuts: list[int]) -> None:
    for head in (b"", OK, CHUNKED, OK + b"Content-Length: 7\r\n\r\n"):
        raw = head + data
        parser = ResponseParser()
        try:
            for read in splits(raw, cuts):
                parser.feed(read)
            parser.feed_eof()
        except (BadResponse, ConnectionCut):
            pass
        else:
            assert parser.complete


@pytest.mark.parametrize("raw", [CHUNKED + b"2\r\nhi\r\n0\r\n", OK + b"Content-Length: 2\r\n\r\nh", OK[:-3]])
def test_early_end_is_a_cut_at_every_byte(raw: bytes) -> None:
    for at in range(len(raw) + 1):
        parser = ResponseParser()
        parser.feed(raw[:at])
        with pytest.raises(ConnectionCut) as caught:
            parser.feed_eof()
        assert caught.value.begun is (at > 0)


def test_repeated_headers_are_joined() -> None:
    parser = ResponseParser()
    parser.feed(OK + b"Via: a\r\nVIA: b\r\nContent-Length: 0\r\n\r\n")
    assert parser.head is not None
    assert json.dumps({**parser.head.headers}) == '{"via": "a, b", "content-length": "0"}'
