"""The clients of a load, against a real node and against gateways that follow a script."""

import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import attrs
import pytest
import trio

from llmactors.testing.checker import check, mock_answer
from llmactors.testing.event_socket import CutError, EventSocket
from llmactors.testing.history import RequestHistory
from llmactors.testing.node import local_node, mock_model
from llmactors.testing.returning_clients import LoadSettings, StreamLoad

pytestmark = pytest.mark.integration

TOKENS = 5
SETTINGS = LoadSettings(
    clients=1,
    requests=1,
    max_tokens=TOKENS,
    silence_s=0.2,
    head_s=0.3,
    retry_after_max_s=0.1,
    settle_s=1.0,
    replay_share=0.0,
)


@attrs.frozen
class Exchange:
    """A request to a scripted gateway, and the means to answer it."""

    stream: trio.SocketStream
    after: int
    is_new: bool
    answer: tuple[str, ...]

    async def head(self, status: str = "200 OK", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, "X-Request-Id: r1"]
        await self.stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def begin(self) -> None:
        await self.head("200 OK", "Transfer-Encoding: chunked")

    async def chunk(self, data: bytes) -> None:
        await self.stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))

    async def tokens(self, first: int, last: int) -> None:
        for seq in range(first, last + 1):
            await self.chunk(self.event("token", seq, text=self.answer[seq - 1]))

    async def done(self) -> None:
        usage = {"completion_tokens": TOKENS}
        await self.chunk(self.event("done", TOKENS + 1, finish_reason="length", usage=usage))
        await self.chunk(b"")

    async def refuse(self, status: str, code: str, *headers: str) -> None:
        body = json.dumps({"error": {"code": code}}).encode()
        await self.head(status, f"Content-Length: {len(body)}", *headers)
        await self.stream.send_all(body)

    def event(self, name: str, seq: int, **more: object) -> bytes:
        payload = json.dumps({"id": "r1", "seq": seq, **more})
        return f"id: {seq}\nevent: {name}\ndata: {payload}\n\n".encode()


Script = Callable[[Exchange], Awaitable[None]]


class Gateway:
    """A server whose n-th connection gets the n-th step of its script; later connections get the last step."""

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.asked: list[tuple[bool, int]] = []
        """For each request: whether it was new, and its `Last-Event-ID` (0 for a new one)."""
        self.url = ""
        self._answer: tuple[str, ...] = ()

    async def serve(self, stream: trio.SocketStream) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await stream.receive_some()
        head, _, body = raw.partition(b"\r\n\r\n")
        is_new = head.startswith(b"POST")
        after = int(head.lower().partition(b"last-event-id: ")[2].split(b"\r\n")[0] or 0)
        if is_new:
            given = json.loads(body)
            asked = RequestHistory(given["prompt"], given["seed"], given["max_tokens"], 0.0)
            self._answer = tuple(mock_answer(asked))
        self.asked.append((is_new, after))
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        with contextlib.suppress(trio.BrokenResourceError):
            await step(Exchange(stream, after, is_new, self._answer))
        await stream.aclose()


@contextlib.asynccontextmanager
async def serving(*script: Script) -> AsyncIterator[Gateway]:
    gateway = Gateway(*script)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, gateway.serve, 0, host="127.0.0.1"))
        gateway.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield gateway
        nursery.cancel_scope.cancel()


async def one_request(gateway: Gateway, **changes: Any) -> StreamLoad:
    """Runs a load of a single client, which stops as soon as its first request is accepted."""
    load = StreamLoad(lambda: [gateway.url], attrs.evolve(SETTINGS, **changes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await load.wait_accepted(1)
        load.stop()
    return load


async def whole(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.tokens(exchange.after + 1, TOKENS)
    await exchange.done()


async def two_and_cut(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.tokens(1, 2)


async def test_streams_of_a_real_node_end_once_each() -> None:
    settings = LoadSettings(clients=16, max_tokens=12, replay_share=1.0)
    async with local_node(mock_model("step_ms=1")) as node:
        load = StreamLoad(lambda: [node.url], settings, seed=7)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await load.wait_accepted(100)
            load.stop()
    report = check(load.history)
    assert report.broken == {}, str(report)
    assert report.finished == report.accepted == report.replays >= 100
    assert not report.unknown
    assert not report.refused


async def test_cut_stream_resumes_after_the_last_event_seen() -> None:
    async with serving(two_and_cut, whole) as gateway:
        load = await one_request(gateway)
    (request,) = load.history.requests
    assert gateway.asked == [(True, 0), (False, 2)]
    assert request.cuts == {"closed early": 1}
    assert request.reconnects == 1
    assert check(load.history).broken == {}


async def test_cut_stream_resumes_at_the_other_gateway() -> None:
    async def rest_of_first(exchange: Exchange) -> None:
        await whole(attrs.evolve(exchange, answer=first._answer))

    async with serving(two_and_cut) as first, serving(rest_of_first) as second:
        load = StreamLoad(lambda: [first.url, second.url] if first.asked else [first.url], SETTINGS)
        await load.run()
    assert first.asked == [(True, 0)]
    assert second.asked == [(False, 2)]
    assert check(load.history).broken == {}


async def test_error_event_without_seq_is_a_cut() -> None:
    async def cut_in_words(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.tokens(1, 2)
        payload = {"id": "r1", "error": {"code": "UNAVAILABLE", "message": ""}}
        await exchange.chunk(b"event: error\ndata: %b\n\n" % json.dumps(payload).encode())
        await exchange.chunk(b"")

    async with serving(cut_in_words, whole) as gateway:
        load = await one_request(gateway)
    assert gateway.asked == [(True, 0), (False, 2)]
    assert load.history.requests[0].cuts == {"error event UNAVAILABLE": 1}
    assert check(load.history).broken == {}


async def test_clean_close_without_terminal_event_is_a_cut() -> None:
    async def two_and_a_clean_end(exchange: Exchange) -> None:
        await two_and_cut(exchange)
        await exchange.chunk(b"")

    async with serving(two_and_a_clean_end, whole) as gateway:
        load = await one_request(gateway)
    assert load.history.requests[0].cuts == {"a clean end without a terminal event": 1}


async def test_silence_is_a_cut() -> None:
    async def two_and_silence(exchange: Exchange) -> None:
        await two_and_cut(exchange)
        await trio.sleep(5)

    async with serving(two_and_silence, whole) as gateway:
        load = await one_request(gateway)
    assert load.history.requests[0].cuts == {"silence": 1}
    assert load.history.gaps(0.15)[0].after_seq == 2
    assert check(load.history).broken == {}


async def test_refused_request_is_sent_anew_and_is_no_loss() -> None:
    async def full(exchange: Exchange) -> None:
        await exchange.refuse("429 Too Many Requests", "OVERLOADED", "Retry-After: 1")

    async with serving(full, whole) as gateway:
        load = await one_request(gateway)
    assert load.history.refused == {"429 OVERLOADED": 1}
    assert gateway.asked == [(True, 0), (True, 0)]
    assert check(load.history).broken == {}


async def test_missing_status_line_leaves_the_outcome_unknown() -> None:
    async def nothing(exchange: Exchange) -> None:
        pass

    async def silence(exchange: Exchange) -> None:
        await trio.sleep(5)

    async with serving(nothing, silence, whole) as gateway:
        load = await one_request(gateway)
    assert load.history.unknown == {"closed before the answer": 1, "silence": 1}
    assert check(load.history).accepted == 1


async def test_accepted_request_is_retried_at_a_busy_gateway() -> None:
    async def away(exchange: Exchange) -> None:
        await exchange.refuse("503 Service Unavailable", "UNAVAILABLE", "Retry-After: 1")

    async with serving(two_and_cut, away, away, whole) as gateway:
        load = await one_request(gateway)
    assert load.history.http_errors == {"503 UNAVAILABLE": 2}
    assert check(load.history).broken == {}


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
async def test_accepted_request_answered_404_is_lost(status: str) -> None:
    async def forgot(exchange: Exchange) -> None:
        await exchange.refuse(status, "X")

    async with serving(two_and_cut, forgot) as gateway:
        load = await one_request(gateway)
    assert check(load.history).broken == {"lost_requests": 1}


async def test_status_204_before_the_end_is_a_loss() -> None:
    async def over(exchange: Exchange) -> None:
        await exchange.head("204 No Content")

    async with serving(two_and_cut, over) as gateway:
        load = await one_request(gateway)
    assert load.history.requests[0].gone == 204
    assert check(load.history).broken == {"lost_requests": 1}


async def test_request_open_after_settle_s_is_lost() -> None:
    async with serving(two_and_cut) as gateway:
        load = await one_request(gateway, settle_s=0.3)
    assert check(load.history).lost_requests == 1


async def test_second_terminal_event_is_seen() -> None:
    async def twice(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.tokens(1, TOKENS)
        event = exchange.event("done", TOKENS + 1, usage={"completion_tokens": TOKENS})
        await exchange.chunk(event)
        await exchange.chunk(event)
        await exchange.chunk(b"")

    async with serving(twice) as gateway:
        load = await one_request(gateway)
    assert check(load.history).broken == {"second_ends": 1}


async def test_log_that_differs_when_replayed_is_seen() -> None:
    async def shorter(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.tokens(1, 3)
        await exchange.done()

    async with serving(whole, shorter) as gateway:
        load = await one_request(gateway, replay_share=1.0)
    assert gateway.asked == [(True, 0), (False, 0)]
    assert check(load.history).broken == {"replays_differ": 1}


async def test_stream_is_read_in_pieces_of_any_size() -> None:
    async def in_drips(exchange: Exchange) -> None:
        sent: list[bytes] = []

        class Keeping:
            async def send_all(self, data: bytes) -> None:
                sent.append(data)

        kept = attrs.evolve(exchange, stream=cast("trio.SocketStream", Keeping()))
        await kept.begin()
        await kept.chunk(b": keep-alive\n\n")
        await kept.tokens(1, TOKENS)
        await kept.done()
        for byte in b"".join(sent):
            await exchange.stream.send_all(bytes([byte]))

    async with serving(in_drips) as gateway:
        load = await one_request(gateway, silence_s=5)
    assert check(load.history).broken == {}


@pytest.mark.parametrize("junk", [b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 70_000, b""])
async def test_malformed_response_head_is_a_cut(junk: bytes) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.stream.send_all(junk)

    async with serving(answer) as gateway:
        with pytest.raises(CutError):
            await EventSocket.open(gateway.url, "GET", "/v1/streams/r1")


@pytest.mark.parametrize("junk", [b"zz\r\nabc\r\n", b"6\r\nabcd\n\n\r\n"])
async def test_malformed_response_body_is_a_cut(junk: bytes) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.stream.send_all(junk)

    async with serving(answer) as gateway:
        with pytest.raises(CutError):
            async with await EventSocket.open(gateway.url, "GET", "/v1/streams/r1") as opened:
                await opened.events()
