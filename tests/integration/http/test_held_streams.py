"""A stream goes on at another gateway without its request, and what its handler did beside writing still happens."""

import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs

from llmactors.access.authentication import Authenticator, Caller
from llmactors.errors import Unauthenticated
from llmactors.gateway.operating.open_connections import OpenConnections
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import Exchange
from llmactors.http.request_id import derived_request_id, keyed_request_id
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.held_answers import ANSWER_S, answers, request
from tests.support.held_lives import Lives, lives_of

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux")

CHAT = {"model": "mock", "messages": [{"role": "user", "content": "rivers"}], "max_tokens": 16, "stream": True}
NATIVE = {"prompt": "rivers", "max_tokens": 16, "stream": True}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
KEY = "idempotency-key: k\r\n"
AMID = ("before record of chunk", 3)
"""A death in the middle of a stream."""


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with running_node() as found:
        yield found


@contextlib.asynccontextmanager
async def running_node(**settings: object) -> AsyncIterator[LocalNode]:
    model = mock_model("step_ms=7,slots=8,tool_format=hermes")
    async with local_node(model, access_log=True, drills=True, flush_interval_s=0.001, **settings) as found:
        await found.wait_ready()
        yield found


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of each response that a handler has begun, by a request that was handled."""
    made: list[str] = []
    begin = Exchange.begin

    async def noted(exchange: Exchange, *args: object) -> None:
        made.append(exchange.scope["path"])
        await begin(exchange, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Exchange, "begin", noted)
    return made


BY_NOTE = {
    "native": request("/v1/generate", NATIVE),
    "native that closes": request("/v1/generate", NATIVE, "connection: close\r\n"),
    "chat": request("/v1/chat/completions", CHAT),
    "chat with usage": request("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}),
    "chat with logprobs": request("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    "completion": request("/v1/completions", {"model": "mock", **NATIVE}),
    "completion with logprobs": request("/v1/completions", {"model": "mock", **NATIVE, "logprobs": 2}),
    "message": request("/v1/messages", CHAT),
}
BY_REQUEST = {
    "chat with tools": request(
        "/v1/chat/completions", {**CHAT, "max_tokens": 200, "tools": [TOOL], "tool_choice": "required"}
    ),
    "HTTP/1.0": request("/v1/generate", NATIVE).replace(b"HTTP/1.1", b"HTTP/1.0"),
}


OFTEN = ("native", "native that closes", "chat", "message")
"""The streams of each run of the suite. `just test-keeper` runs all of them."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.keeper) for name in BY_NOTE | BY_REQUEST]
)
async def test_death_amid_a_stream_changes_no_byte(
    name: str, node: LocalNode, heads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two gateways die. A stream of a usual kind needs its request at the first one only."""
    sent = {**BY_NOTE, **BY_REQUEST}[name]
    read = partial(answers, sent=sent) if name != "HTTP/1.0" else partial(read_to_the_end, sent=sent)
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await read(stream)
        heads.clear()
        lives.again_after = 12
        async with lives.client(AMID if name in BY_NOTE else ("behind send", 4)) as stream:
            assert await read(stream) == expected
            if name == "native that closes":
                with trio.fail_after(ANSWER_S):
                    assert await stream.receive_some() == b""
        assert lives.takeovers in {1, 2}  # on a busy machine the second one may come too late
        assert not lives.cut
    assert len(heads) == (1 if name in BY_NOTE else 1 + lives.takeovers)


async def read_to_the_end(stream: trio.SocketStream, sent: bytes) -> bytes:
    await stream.send_all(sent)
    found = b""
    with trio.fail_after(ANSWER_S):
        while data := await stream.receive_some():
            found += data
    return found.rpartition(b'"usage"')[2]


async def test_followed_stream_goes_on(node: LocalNode, heads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`GET /v1/streams/{id}`, from an event on."""
    await node.client.post("/v1/generate", json=NATIVE, headers={"idempotency-key": "f"})
    sent = f"GET /v1/streams/{keyed_request_id('anonymous', 'f')}?after=2 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, sent)
        for point in ("behind send", 1), ("behind note", 1), ("behind record", 2):
            async with lives.client(point) as stream:
                assert await answers(stream, sent) == expected
        assert not lives.cut


async def test_next_requests_follow(node: LocalNode, heads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits in a pipeline since before the death, and one that comes later."""
    sent = BY_NOTE["chat"] + request("/v1/generate", {"prompt": "lakes", "max_tokens": 3})
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, sent, 2)
        heads.clear()
        async with lives.client(AMID) as stream:
            assert await answers(stream, sent, 2) == expected
            assert await answers(stream, sent, 2) == expected
        assert not lives.cut
    assert heads == ["/v1/chat/completions", "/v1/generate"] * 2


async def amid_second_life(lives: Lives, stream: trio.SocketStream, sent: bytes) -> None:
    """Sends a request, and returns amid its stream at the second gateway."""
    await stream.send_all(sent)
    await wait_until(lambda: lives.takeovers == 1)
    written = lives.points.count("behind send")
    await wait_until(lambda: lives.points.count("behind send") > written + 2)


@pytest.mark.parametrize(
    ("sent", "goes_on"),
    [
        (request("/v1/generate", {**NATIVE, "max_tokens": 4000}), True),
        (request("/v1/chat/completions", {**CHAT, "max_tokens": 4000}), False),
        (request("/v1/chat/completions", {**CHAT, "max_tokens": 4000}, KEY), True),
    ],
    ids=["native", "chat", "chat with a key"],
)
async def test_disconnect_ends_what_it_always_ends(
    sent: bytes, goes_on: bool, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = keyed_request_id("anonymous", "k") if KEY.encode() in sent else derived_request_id("t:1:0")
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client(AMID) as stream:
            await amid_second_life(lives, stream, sent)
            log = node.node.ledger._records[request_id]
            assert log.readers == 1
        assert log.readers == 0
        assert ((await node.node.ledger.info(request_id)).state == "running") is goes_on
        await node.node.ledger.cancel(request_id)


@pytest.mark.parametrize("name", ["native", "chat"])
async def test_stream_is_counted_and_logged(name: str, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that no death has met, but for what only the first gateway knows: when the request came."""
    lines = []
    async with lives_of(node.node, monkeypatch) as lives:
        for die_at in (1 << 60, AMID):
            before = node.node.metrics._in_flight._value.get()
            with capture_logs() as logs:
                async with lives.client(die_at) as stream:
                    await stream.send_all(BY_NOTE[name])
                    if die_at == AMID:
                        await wait_until(lambda: lives.takeovers == 1)
                    await answers(stream, b"")
                    await wait_until(lambda: any(line["event"] == "request" for line in logs))
            assert node.node.metrics._in_flight._value.get() == before
            lines.append(
                [line for line in logs if line["event"] == "request"][-1]
            )  # the dead one writes a line here too
    first, second = lines
    assert second["seconds"] > 0
    for line in lines:
        del line["seconds"], line["ttft_s"], line["request_id"]
    assert first == second


async def test_stream_is_found_and_ended_by_its_node(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain waits for the stream and ends it at last; a drill finds its connection."""
    services: list[RequestService] = []
    begin = RequestService.__init__

    def noted(service: RequestService, *args: object, **more: object) -> None:
        services.append(service)
        begin(service, *args, **more)  # type: ignore[arg-type]

    found: list[int] = []
    noting = OpenConnections.noting

    def counted(connections: OpenConnections, exchange: Exchange) -> contextlib.AbstractContextManager[None]:
        found.append(len(connections._open))
        return noting(connections, exchange)

    monkeypatch.setattr(RequestService, "__init__", noted)
    monkeypatch.setattr(OpenConnections, "noting", counted)
    async with lives_of(node.node, monkeypatch) as lives, lives.client(AMID) as stream:
        await amid_second_life(lives, stream, request("/v1/chat/completions", {**CHAT, "max_tokens": 4000}))
        services[-1].cut()
        [answer] = await answers(stream, b"")
        assert b"the node shut down before the answer was complete" in answer
    assert len(found) == 2


async def test_key_that_was_revoked_meanwhile_cuts(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Caller:
        raise Unauthenticated

    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            await stream.send_all(request("/v1/generate", {**NATIVE, "max_tokens": 4000}))
            await wait_until(lambda: lives.points.count("behind send") > 5)
            monkeypatch.setattr(Authenticator, "identify", refuse)
            lives.life.die()
            with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(ANSWER_S):
                while await stream.receive_some():
                    pass
        assert lives.cut == ["its answer cannot be continued"]
    await node.node.ledger.cancel(derived_request_id("t:1:0"))


async def test_client_behind_a_proxy_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = request("/v1/generate", NATIVE, "x-forwarded-for: 203.0.113.9\r\n")
    async with running_node(trusted_proxies=("127.0.0.1",)) as node, lives_of(node.node, monkeypatch) as lives:
        with capture_logs() as logs:
            async with lives.client(AMID) as stream:
                await answers(stream, sent)
                await wait_until(lambda: any(line.get("status") == 200 for line in logs))
        assert lives.takeovers == 1
    assert {line["client"] for line in logs if line["event"] == "request"} == {"203.0.113.9"}
