"""HTTP on the wire: unusual but valid requests are served, and invalid requests are refused."""

import functools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import h11
import pytest
import trio

from llmactors.http.connection import ConnectionSettings
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]


def request(
    prompt: str, *, head: str = "", target: str = "/v1/generate", stream: bool = False, tokens: int = 3
) -> bytes:
    body = json.dumps({"prompt": prompt, "max_tokens": tokens, "stream": stream}).encode()
    lines = f"POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{head}\r\n"
    return lines.encode() + body


class Wire:
    """A client that sends raw bytes, and parses answers with h11."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._machine = h11.Connection(h11.CLIENT)

    async def answer(self, method: str = "POST") -> tuple[h11.Response, bytes]:
        """Reads the next answer, which answers a request with `method`."""
        if self._machine.our_state is h11.DONE:
            self._machine.start_next_cycle()
        self._machine.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._machine.send(h11.EndOfMessage())
        head, body = None, b""
        while True:
            event = self._machine.next_event()
            if event is h11.NEED_DATA:
                with trio.fail_after(10):
                    self._machine.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return head, body

    async def text(self) -> str:
        """Reads the next answer, which must be a success, and returns its text."""
        head, body = await self.answer()
        assert head.status_code == 200, body
        return str(json.loads(body)["text"])

    async def wait_closed(self) -> None:
        """Waits until the server closes the connection. Fails if anything comes before."""
        with trio.fail_after(10):
            assert await self.stream.receive_some() == b""


async def connect(node: LocalNode) -> Wire:
    return Wire(await trio.open_tcp_stream("127.0.0.1", node.port))


async def test_two_requests_in_one_packet_are_answered_in_order(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=2")) as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(
                request("one") + request("two") + b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
            )

            assert await wire.text() == oracle("one", 3)
            assert await wire.text() == oracle("two", 3)
            assert (await wire.answer("GET"))[1] == b'{"status":"ok"}'
            # The connection stays open after the answer.
            await wire.stream.send_all(request("three"))
            assert await wire.text() == oracle("three", 3)


async def test_pipelined_stream_ends_before_the_next_answer(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=20")) as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("one", stream=True) + request("two"))
            head, body = await wire.answer()

            assert (head.status_code, body.count(b"event: token"), body.count(b"event: done")) == (200, 3, 1)
            assert await wire.text() == oracle("two", 3)


async def test_disconnect_with_a_pipelined_request_is_noticed(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=60) as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("one", tokens=8000) + request("two"))
            await wait_until(lambda: "1 running" in repr(node.node.ledger))
        # The node cancels a JSON request whose client is gone, although no write can fail meanwhile.


async def test_request_sent_byte_by_byte_is_answered(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            for byte in request("slowly"):
                await wire.stream.send_all(bytes([byte]))
            assert await wire.text() == oracle("slowly", 3)


async def test_expect_100_continue_gets_100(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            head, _, body = request("polite", head="expect: 100-continue\r\n").partition(b"\r\n\r\n")
            await wire.stream.send_all(head + b"\r\n\r\n")
            assert (await wire.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await wire.stream.send_all(body)
            assert await wire.text() == oracle("polite", 3)


async def test_chunked_request_body_is_read(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(
                b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for piece in (b'{"prompt":', b'"in pieces",', b'"max_tokens":3}'):
                await wire.stream.send_all(b"%x;extension=1\r\n%b\r\n" % (len(piece), piece))
            await wire.stream.send_all(b"0\r\ntrailer: x\r\n\r\n")
            assert await wire.text() == oracle("in pieces", 3)


@pytest.mark.parametrize("keep_alive", [False, True])
async def test_http_1_0_request_is_answered_and_closed(keep_alive: bool, nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            data = request("old", head="connection: keep-alive\r\n" if keep_alive else "")
            await wire.stream.send_all(data.replace(b"HTTP/1.1", b"HTTP/1.0"))
            assert await wire.text() == oracle("old", 3)
            await wire.wait_closed()


async def test_http_1_0_stream_ends_with_the_connection(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("old", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
            head, body = await wire.answer()
            assert b"transfer-encoding" not in dict(head.headers)
            assert (body.count(b"event: token"), body.count(b"event: done")) == (3, 1)


async def test_connection_close_header_closes(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("bye", head="connection: close\r\n"))
            assert await wire.text() == oracle("bye", 3)
            await wire.wait_closed()


async def test_absolute_and_escaped_targets_are_served() -> None:
    async with local_node() as node:
        wire = await connect(node)
        async with wire.stream:
            for target in ("http://other.example/v1/generate", "HTTP://[::1]:80/v1/generate", "/v1/gener%61te"):
                await wire.stream.send_all(request("elsewhere", target=target))
                assert await wire.text() == oracle("elsewhere", 3)


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/models", "/v1/tree", "/livez", "/nowhere"])
async def test_truncated_request_id_is_echoed_without_trailing_space(path: str) -> None:
    """An id that is truncated after a space must not end with that space, since h11 refuses such a header."""
    async with local_node() as node:
        wire = await connect(node)
        async with wire.stream:
            head = b"GET %b HTTP/1.1\r\nhost: localhost\r\nx-request-id: %b %b\r\n\r\n" % (
                path.encode(),
                b"a" * 127,
                b"b",
            )
            await wire.stream.send_all(head)
            answer, _ = await wire.answer("GET")
            assert dict(answer.headers)[b"x-client-request-id"] == b"a" * 127


async def test_methods_are_case_sensitive() -> None:
    """The answer to `head` is framed like any answer and not like the answer to HEAD."""
    async with local_node() as node:
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(b"head /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" + request("next"))
            head, body = await wire.answer("GET")
            assert len(body) == int(dict(head.headers)[b"content-length"])
            assert await wire.text() == oracle("next", 3)
            await wire.stream.send_all(request("none").replace(b"POST", b"post"))
            head, _ = await wire.answer()
            assert (head.status_code, dict(head.headers)[b"allow"]) == (405, b"POST, OPTIONS")


async def test_upgrade_to_http_2_is_ignored(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            head = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
            for prompt in ("one", "two"):
                await wire.stream.send_all(request(prompt, head=head))
                assert await wire.text() == oracle(prompt, 3)


GARBAGE = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "words": b"hello there\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "bad header": b"GET /livez HTTP/1.1\r\nhost: localhost\r\nno colon\r\n\r\n",
    "header with NUL": b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: \0\r\n\r\n",
    "space before colon": b"GET /livez HTTP/1.1\r\nhost : a\r\n\r\n",
    "target with space": b"GET /livez x HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "target beyond ascii": "GET /é HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
    "bad length": b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    "endless length": b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
    "two lengths": b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "two framings": b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
}


async def test_non_http_bytes_get_json_400_and_close(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for name, data in GARBAGE.items():
            wire = await connect(node)
            async with wire.stream:
                await wire.stream.send_all(data)
                head, body = await wire.answer()

                error = json.loads(body)["error"]
                assert (head.status_code, error["code"]) == (400, "INVALID_REQUEST"), name
                assert dict(head.headers)[b"x-request-id"].decode() == error["request_id"]
                await wire.wait_closed()


@pytest.mark.parametrize(
    "data", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /livez HTTP/3.0\r\nhost: localhost\r\n\r\n"]
)
async def test_other_versions_of_http_are_505(data: bytes, nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(data)
            head, body = await wire.answer()
            assert head.status_code == 505
            assert "HTTP/1.1" in json.loads(body)["error"]["message"]
            await wire.wait_closed()


async def test_refused_head_request_gets_no_body(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(b"HEAD /livez HTTP/2.0\r\nhost: localhost\r\n\r\n")
            head, body = await wire.answer("HEAD")
            assert (head.status_code, body) == (505, b"")
            await wire.wait_closed()


async def test_unknown_transfer_encoding_is_501(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(
                b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n"
            )
            head, body = await wire.answer()
            assert head.status_code == 501
            assert json.loads(body)["error"]["code"] == "INVALID_REQUEST"


async def test_client_reads_431_after_a_huge_head(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 500_000)
            head, body = await wire.answer("GET")
            assert head.status_code == 431
            assert "too large" in json.loads(body)["error"]["message"]
            await wire.wait_closed()


async def test_garbage_after_a_request_does_not_spoil_its_answer(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5")) as node, nothing_left(node):
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("good") + b"\x00garbage\r\n\r\n")
            assert await wire.text() == oracle("good", 3)
            head, _ = await wire.answer()
            assert head.status_code == 400
            await wire.wait_closed()


async def test_half_sent_request_closes_the_connection(nothing_left: NothingLeft) -> None:
    """A FIN counts as a disconnect, since a server cannot tell a half-closed socket from a closed one."""
    async with local_node() as node, nothing_left(node):
        for half in (0, 10, 60, 150):
            wire = await connect(node)
            async with wire.stream:
                await wire.stream.send_all(request("x" * 1000)[:half])
                await wire.stream.send_eof()
                with trio.fail_after(5):
                    while await wire.stream.receive_some():
                        pass


async def test_idle_connection_is_closed_after_its_timeout(
    monkeypatch: pytest.MonkeyPatch, nothing_left: NothingLeft
) -> None:
    settings = functools.partial(ConnectionSettings, idle_s=0.2)
    monkeypatch.setattr("llmactors.system.gateway_actors.ConnectionSettings", settings)
    async with local_node() as node:
        silent, half, used = [await connect(node) for _ in range(3)]
        async with silent.stream, half.stream, used.stream:
            await half.stream.send_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n")
            await used.stream.send_all(request("one", stream=True))
            await used.answer()
            for wire in (silent, half, used):
                await wire.wait_closed()


async def test_slow_stream_does_not_count_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = functools.partial(ConnectionSettings, idle_s=0.1)
    monkeypatch.setattr("llmactors.system.gateway_actors.ConnectionSettings", settings)
    async with local_node(mock_model("step_ms=200")) as node:
        wire = await connect(node)
        async with wire.stream:
            await wire.stream.send_all(request("slow", stream=True))
            _, body = await wire.answer()
            assert (body.count(b"event: token"), body.count(b"event: done")) == (3, 1)
