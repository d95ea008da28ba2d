"""What a connection or a crashed backend used is freed at its end, without a run of the garbage collector.

The collector of a node looks at old objects only seldom, so that objects in reference cycles would pile up.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

import attrs
import pytest
import structlog
import trio
import trio.testing

from llmactors.http.server import Server
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.integration.gateway.test_leaks import parts
from tests.support.byte_fuzzer import CHUNK, HANDSHAKE, frame, post
from tests.support.cycles import in_cycles, no_collections

pytestmark = pytest.mark.integration

TIMES = 4
HEAD = b"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\n"
GENERATE = post(b"/v1/generate", b'{"prompt": "x", "max_tokens": 3}')
STREAM = post(b"/v1/generate", b'{"prompt": "x", "max_tokens": 3, "stream": true}')
LONG = post(b"/v1/generate", b'{"prompt": "x", "max_tokens": 4000, "stream": true}')
CHAT = b'{"model": "mock", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3%b}'
IN_BACKGROUND = b'{"model": "mock", "input": "x", "max_output_tokens": 3, "background": true}'
SOCKET_STREAM = HANDSHAKE + frame(1, b'{"op": "generate", "prompt": "x", "max_tokens": 3}')
BAD_KEY = HANDSHAKE.replace(b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"")


@attrs.frozen
class Visit:
    """One connection of a client."""

    name: str
    data: bytes
    """What the client sends."""
    until: bytes = b""
    """The client leaves at these bytes; without any, when the server closes the connection."""
    closing: bytes = b""
    """What the client sends before it leaves."""


VISITS = (
    Visit("stream", STREAM, b"0\r\n\r\n"),
    Visit("whole answer", GENERATE, b"finish_reason"),
    Visit("chat stream", post(b"/v1/chat/completions", CHAT % b', "stream": true'), b"[DONE]"),
    Visit("whole chat", post(b"/v1/chat/completions", CHAT % b""), b"finish_reason"),
    Visit("response in the background", post(b"/v1/responses", IN_BACKGROUND), b'"background"'),
    Visit("pipeline", GENERATE + GENERATE.replace(b"\r\nhost", b"\r\nconnection: close\r\nhost")),
    Visit("client leaves a stream", LONG, b"event: token"),
    Visit("client leaves half of a head", HEAD, closing=b"x-half: "),
    Visit("client leaves half of a body", HEAD + b"expect: 100-continue\r\ncontent-length: 99\r\n\r\n", b"100"),
    Visit("client leaves half of a chunk", CHUNK, closing=b"ff\r\n{"),
    Visit("socket is closed", SOCKET_STREAM, b'"done"', frame(8, b"\x03\xe8")),
    Visit("client leaves a socket", SOCKET_STREAM.replace(b" 3}", b" 4}"), b'"token"'),
    Visit("client leaves half of a frame", HANDSHAKE + b"\x81\xfe\x10", b"101"),
    Visit("socket gets bytes that are no frame", HANDSHAKE + b"\xff\xff\xff\xff"),
    Visit("socket gets a message that is no JSON", HANDSHAKE + frame(1, b"{"), b"INVALID"),
    Visit("handshake without a key", BAD_KEY),
    Visit("bytes that are no HTTP", b"\0\1\2\r\n\r\n"),
    Visit("header that is no header", HEAD + b"no header\r\n\r\n"),
    Visit("chunk without a size", CHUNK + b"size\r\n"),
    Visit("body with two framings", HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n"),
    Visit("head that is too large", HEAD + b"x: %b\r\n\r\n" % (b"x" * 70_000)),
    Visit("version that is not served", b"GET / HTTP/3.0\r\n\r\n"),
    Visit("path that does not exist", b"GET /nothing HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"404"),
    Visit("method that does not exist", b"PUT /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"405"),
    Visit("body that is no JSON", post(b"/v1/generate", b"{"), b"400"),
    Visit("stream that does not exist", b"GET /v1/streams/x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"404"),
    Visit("models", b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"mock"),
)


async def visit(node: LocalNode, each: Visit) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
        await stream.send_all(each.data)
        seen = b""
        while not (each.until and each.until in seen) and not (each.closing and not each.until):
            try:
                data = await stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            seen += data
            if not data:
                break
        if each.closing:
            await stream.send_all(each.closing)


async def test_ended_connections_leave_no_reference_cycles() -> None:
    left: dict[str, Counter[str]] = {}
    async with local_node(mock_model("step_ms=1,slots=8"), resume_grace_s=0.05, rate_limit="1000000/s") as node:
        await node.wait_ready()
        server, _, _ = parts(node)
        with trio.fail_after(60), no_collections():
            for each in VISITS:
                await visit(node, each)
                await settle(node, server)
                in_cycles()
                for _ in range(TIMES):
                    await visit(node, each)
                await settle(node, server)
                if found := in_cycles():
                    left[each.name] = found
    assert not left


async def settle(node: LocalNode, server: Server) -> None:
    await wait_until(lambda: not server.connections and " 0 running" in repr(node.node.ledger))
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def _no_log() -> Iterator[None]:
    """Logs nothing, because the renderer for developers makes cycles when it shows a traceback."""

    def drop(_logger: object, _method: str, _event: object) -> NoReturn:
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    kept = list(processors)
    processors[:] = [drop]
    yield
    processors[:] = kept


@pytest.mark.usefixtures("_no_log")
async def test_crashed_backend_leaves_no_reference_cycles() -> None:
    path = "node/serving/backends/mock"
    async with local_node(mock_model("slots=8")) as node:
        await node.wait_ready()
        with trio.fail_after(60), no_collections():
            for _ in range(3):  # what was made before the block is never found
                in_cycles()
                incarnation = node.incarnations()[path]
                node.crash(path)
                await node.wait_running(path, incarnation + 1)
                await node.wait_ready()
                await trio.testing.wait_all_tasks_blocked()
                assert in_cycles() == {}
