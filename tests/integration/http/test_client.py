"""The HTTP client against servers that keep, break, stall and flood connections; and cancelled at every step."""

import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import (
    BadResponse,
    ConnectFailed,
    ConnectionCut,
    ConnectTimeout,
    HttpClientError,
)
from llmactors.http.client_socket import Origin
from llmactors.http.response import ResponseLimits
from llmactors.testing.node import wait_until

pytestmark = pytest.mark.integration

HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@attrs.define(eq=False)
class Server:
    """Answers the n-th request, over all connections, with the n-th of `answers`; the last one stays."""

    answers: list["bytes | Callable[[trio.abc.Stream], Awaitable[None]]"]
    url: str = ""
    requests: list[bytes] = attrs.field(factory=list)
    connections: int = 0
    open_now: int = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open_now += 1
        held = b""
        try:
            async with stream:
                while True:
                    while b"\r\n\r\n" not in held:
                        data = await stream.receive_some(65536)
                        if not data:
                            return
                        held += data
                    head, _, held = held.partition(b"\r\n\r\n")
                    _, found, length = head.lower().partition(b"content-length: ")
                    size = int(length.split(b"\r\n")[0]) if found else 0
                    while len(held) < size:
                        held += await stream.receive_some(65536)
                    self.requests.append(head + b"\r\n\r\n" + held[:size])
                    held = held[size:]
                    answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                    if isinstance(answer, bytes):
                        await stream.send_all(answer)
                    else:
                        await answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open_now -= 1


@contextlib.asynccontextmanager
async def serving(
    *answers: "bytes | Callable[[trio.abc.Stream], Awaitable[None]]", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(list(answers))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"

        async def serve(stream: trio.SocketStream) -> None:
            await server.serve(trio.SSLStream(stream, tls, server_side=True) if tls else stream)

        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield server
        nursery.cancel_scope.cancel(reason="the test is over")


async def settle(server: Server, open_now: int) -> None:
    await wait_until(lambda: server.open_now == open_now)


@contextlib.contextmanager
def using(url: str, **settings: object) -> Iterator[HttpClient]:
    client = HttpClient(url, settings=ClientSettings(**settings))  # type: ignore[arg-type]
    try:
        yield client
    finally:
        client.close()


def file_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


# What goes out.


async def test_request_has_its_head_and_body() -> None:
    async with serving(HI) as server:
        client = HttpClient(f"{server.url}/v1/", headers=[("Authorization", "Bearer k")])
        found = await client.fetch("POST", "/x?y=1", b"abc", [("Last-Event-ID", "7")])
        client.close()
    assert (found.status, found.body, found.headers["content-length"]) == (200, b"hi", "2")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert (first, body) == ("POST /v1/x?y=1 HTTP/1.1", b"abc")
    assert lines == [
        f"Host: {server.url.removeprefix('http://')}",
        "Accept-Encoding: identity",
        "Authorization: Bearer k",
        "Last-Event-ID: 7",
        "Content-Length: 3",
    ]


@pytest.mark.parametrize(
    "path", ["/a b", "/a\r\nX: y", "no-slash", "/ü", "/\0"], ids=["space", "line end", "no slash", "no ASCII", "NUL"]
)
async def test_malformed_path_is_not_sent(path: str) -> None:
    with using("http://127.0.0.1:1") as client, pytest.raises(ValueError, match="no path"):
        await client.open("GET", path)


async def test_malformed_header_is_neither_sent_nor_shown() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        HttpClient("http://127.0.0.1:1", headers=[("Authorization", "Bearer secret\r\nX: y")])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://u:p@x", "http://x:0x1", "http://x?y", "http://ü", "x"])
def test_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text differs, and all are about the URL
        Origin.parse(url)


def test_origin_has_its_parts() -> None:
    assert Origin.parse("https://[::1]:8443/a/b/") == Origin("::1", 8443, True, "[::1]:8443", "/a/b")
    assert Origin.parse("http://host") == Origin("host", 80, False, "host", "")


# Bodies.


async def test_body_streams_as_it_comes() -> None:
    go_on = trio.Event()

    async def slow(stream: trio.abc.Stream) -> None:
        await stream.send_all(HEAD + b"3\r\none\r\n")
        await go_on.wait()
        await stream.send_all(b"3\r\ntwo\r\n5\r\nthree\r\n" + END)

    async with serving(slow) as server:
        with using(server.url) as client:
            async with await client.open("GET", "/") as response:
                assert await response.receive() == b"one"
                assert not response.complete
                go_on.set()
                assert await response.receive() == b"twothree"
                assert response.complete
                assert await response.receive() == b""
            assert client.statistics().idle == 1


async def test_redirect_is_not_followed() -> None:
    async with serving(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n") as server:
        with using(server.url) as client:
            assert (await client.fetch("GET", "/")).status == 302
        assert len(server.requests) == 1


async def test_early_answer_to_a_large_body_is_read() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        await stream.send_all(refusal)
        await stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(65536):
                pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, refuse, listeners)
        with using(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as client:
            assert (await client.fetch("POST", "/", b"x" * (4 << 20))).status == 413
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_body_is_bounded() -> None:
    async def endless(stream: trio.abc.Stream) -> None:
        await stream.send_all(HEAD)
        while True:
            await stream.send_all(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with serving(endless) as server:
        with using(server.url) as client:
            async with await client.open("GET", "/") as response:
                with pytest.raises(BadResponse, match="longer than 100000"):
                    await response.read(100_000)
        bounded = using(server.url, limits=ResponseLimits(body_bytes=100_000))
        with bounded as client, pytest.raises(BadResponse, match="longer than 100000"):
            await client.fetch("GET", "/")
        await settle(server, 0)


async def test_endless_head_is_bounded() -> None:
    async def endless(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X: y\r\n" * 1000)

    async with serving(endless) as server:
        with using(server.url) as client, pytest.raises(BadResponse, match="head is longer"):
            await client.open("GET", "/")
        await settle(server, 0)


@pytest.mark.parametrize("answer", [HEAD + b"5\r\nab", HI[:-1], HI[:20]])
async def test_cut_answer_is_an_error(answer: bytes) -> None:
    async def cut(stream: trio.abc.Stream) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    async with serving(cut) as server:
        with using(server.url) as client:
            with pytest.raises(ConnectionCut) as caught:
                await client.fetch("GET", "/")
            assert caught.value.begun
            assert client.statistics().idle == 0


async def test_closed_response_cannot_be_read() -> None:
    async with serving(HEAD) as server:
        with using(server.url) as client:
            response = await client.open("GET", "/")
            response.close()
            response.close()
            with pytest.raises(ConnectionCut):
                await response.receive()


# Reuse.


async def test_connection_serves_one_request_after_another() -> None:
    async with serving(HI, HEAD + b"2\r\nyo\r\n" + END, HI) as server:
        with using(server.url) as client:
            bodies = [(await client.fetch("POST", "/", b"x")).body for _ in range(3)]
            statistics = client.statistics()
        assert (bodies, server.connections) == ([b"hi", b"yo", b"hi"], 1)
        assert (statistics.opened, statistics.reused, statistics.idle) == (1, 2, 1)
        await settle(server, 0)


async def test_requests_at_once_have_connections_of_their_own() -> None:
    async with serving(HEAD + b"2\r\nhi\r\n") as server:
        with using(server.url) as client:
            first, second = await client.open("GET", "/"), await client.open("GET", "/")
            assert (await first.receive(), await second.receive(), server.connections) == (b"hi", b"hi", 2)
            first.close()
            second.close()


async def test_unread_body_closes_the_connection() -> None:
    async with serving(HEAD + b"2\r\nhi\r\n", HI) as server:
        with using(server.url) as client:
            async with await client.open("GET", "/") as response:
                assert await response.receive() == b"hi"
            await settle(server, 0)
            assert (await client.fetch("GET", "/")).body == b"hi"
            assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        HI.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        HI.replace(b"1.1", b"1.0"),
        HI + b"more than was announced",
    ],
    ids=["close", "HTTP/1.0", "bytes behind the end"],
)
async def test_some_connections_are_not_reused(answer: bytes) -> None:
    async with serving(answer) as server:
        with using(server.url) as client:
            assert [(await client.fetch("GET", "/")).body for _ in range(2)] == [b"hi", b"hi"]
            assert (server.connections, client.statistics().idle) == (2, 0)


async def test_idle_connections_are_bounded_in_number_and_time() -> None:
    async with serving(HI) as server:
        with using(server.url, max_idle=2, idle_s=0.05) as client:
            responses = [await client.open("GET", "/") for _ in range(4)]
            for response in responses:
                response.close()
            assert client.statistics().idle == 2
            await settle(server, 2)
            await trio.sleep(0.06)
            await client.fetch("GET", "/")
            assert (server.connections, client.statistics().idle) == (5, 1)


async def test_max_idle_0_keeps_no_connection() -> None:
    async with serving(HI) as server:
        with using(server.url, max_idle=0) as client:
            await client.fetch("GET", "/")
            assert b"Connection: close" in server.requests[0]
            await settle(server, 0)


async def test_closed_client_keeps_no_connection() -> None:
    async with serving(HI) as server:
        with using(server.url) as client:
            response = await client.open("GET", "/")
            client.close()
            assert await response.read() == b"hi"
            response.close()
        await settle(server, 0)


async def test_closed_idle_connection_is_skipped() -> None:
    async def once(stream: trio.abc.Stream) -> None:
        await stream.send_all(HI)
        await stream.aclose()

    async with serving(once, HI) as server:
        with using(server.url) as client:
            await client.fetch("POST", "/", b"x")
            await settle(server, 0)
            assert (await client.fetch("POST", "/", b"x")).body == b"hi"
            assert client.statistics().reused == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_a_repeatable_request_is_sent_again(method: str) -> None:
    """The server closes a kept connection on receiving its second request."""

    async def close(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    async with serving(HI, close, HI) as server:
        with using(server.url) as client:
            await client.fetch("GET", "/")
            if method == "GET":
                assert (await client.fetch("GET", "/")).body == b"hi"
                assert len(server.requests) == 3
            else:
                with pytest.raises(ConnectionCut) as caught:
                    await client.fetch("POST", "/", b"x")
                assert not caught.value.begun
                assert len(server.requests) == 2


async def test_request_on_a_new_connection_is_sent_once() -> None:
    async def close(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    async with serving(close) as server:
        with using(server.url) as client, pytest.raises(ConnectionCut):
            await client.fetch("GET", "/")
        assert len(server.requests) == 1


# Connecting.


async def test_refused_connection_names_server_and_reason() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with using(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}: Connection refused"):
            await client.open("GET", "/")
        with pytest.raises(ConnectFailed):
            await client.fetch("GET", "/")
    with using(f"http://localhost:{port}") as client, pytest.raises(ConnectFailed, match=f"localhost:{port}"):
        await client.open("GET", "/")


async def test_host_names_are_resolved() -> None:
    async with serving(HI) as server:
        with using(server.url.replace("127.0.0.1", "localhost")) as client:
            assert (await client.fetch("GET", "/")).body == b"hi"


async def test_connecting_takes_a_bounded_time() -> None:
    """A listener whose backlog is full accepts nothing more."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [trio.socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                with trio.move_on_after(0.05):
                    await filler.connect(address)
            impatient = using(f"http://127.0.0.1:{address[1]}", connect_s=0.1)
            with impatient as client, pytest.raises(ConnectTimeout, match=r"within 0\.1 s"):
                await client.open("GET", "/")
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_proxies_of_the_environment_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(HI) as server:
        with using(server.url) as client:
            assert (await client.fetch("GET", "/")).body == b"hi"


# TLS and proxies.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert, both = directory / "key.pem", directory / "cert.pem", directory / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_streams_and_reuses(certificate: Path) -> None:
    async with serving(HI, HEAD + b"2\r\nyo\r\n" + END, tls=server_context(certificate)) as server:
        with using(server.url, ca_file=str(certificate)) as client:
            assert [(await client.fetch("GET", "/")).body for _ in range(2)] == [b"hi", b"yo"]
            assert server.connections == 1


async def test_unknown_authority_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the environment would trust it, or asks for the session's keys."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("SSLKEYLOGFILE", str(certificate.with_name("keys")))
    async with serving(HI, tls=server_context(certificate)) as server:
        with using(server.url) as client, pytest.raises(ConnectFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await client.fetch("GET", "/")
    assert not certificate.with_name("keys").exists()


async def test_server_without_tls_is_refused() -> None:
    async with serving(HI) as server:
        with using(server.url.replace("http", "https"), connect_s=0.5) as client, pytest.raises(ConnectFailed):
            await client.fetch("GET", "/")


async def forward(proxy: trio.abc.Stream, port: int) -> None:
    await proxy.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65536):
                await target.send_all(data)

    async with await trio.open_tcp_stream("127.0.0.1", port) as upstream, trio.open_nursery() as nursery:
        nursery.start_soon(copy, upstream, proxy)
        await copy(proxy, upstream)
        nursery.cancel_scope.cancel(reason="the client is gone")


@pytest.mark.parametrize("tls", [False, True])
async def test_configured_proxy_tunnels(certificate: Path, *, tls: bool) -> None:
    async with serving(HI, tls=server_context(certificate) if tls else None) as server:
        port = int(server.url.rpartition(":")[2])
        async with serving(lambda stream: forward(stream, port)) as proxy:
            with using(server.url, proxy=proxy.url, ca_file=str(certificate)) as client:
                assert [(await client.fetch("GET", "/")).body for _ in range(2)] == [b"hi", b"hi"]
            assert [each.split(b"\r\n")[0] for each in proxy.requests] == [b"CONNECT 127.0.0.1:%d HTTP/1.1" % port]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_declining_proxy_is_a_failed_connection(answer: bytes) -> None:
    async with serving(answer) as proxy:
        with using("http://127.0.0.1:9", proxy=proxy.url) as client, pytest.raises(ConnectFailed):
            await client.fetch("GET", "/")


# Cancellation.


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope before the n-th step of its task."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope
    step: int
    seen: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.seen += 1
            if self.seen == self.step:
                self.scope.cancel(reason="the test cancels here")


@pytest.mark.parametrize("way", ["plain", "name", "tls", "proxy"])
async def test_cancel_at_any_step_leaks_no_socket(way: str, certificate: Path) -> None:
    async def slow(stream: trio.abc.Stream) -> None:
        for piece in (HEAD[:20], HEAD[20:], b"3\r\non", b"e\r\n", b"3\r\ntwo\r\n", END):
            await trio.sleep(0.001)
            await stream.send_all(piece)

    async with serving(slow, tls=server_context(certificate) if way == "tls" else None) as server:
        port = int(server.url.rpartition(":")[2])
        async with serving(lambda stream: forward(stream, port)) as proxy:
            url = server.url.replace("127.0.0.1", "localhost") if way == "name" else server.url
            settings = {"proxy": proxy.url if way == "proxy" else "", "ca_file": str(certificate)}
            await trio.to_thread.run_sync(lambda: None)
            before = file_descriptors()
            for step in range(1, 200):
                with using(url, **settings) as client, trio.CancelScope() as scope:
                    watch = CancelAtStep(trio.lowlevel.current_task(), scope, step)
                    trio.lowlevel.add_instrument(watch)
                    try:
                        assert (await client.fetch("GET", "/")).body == b"onetwo"
                        assert (await client.fetch("GET", "/")).body == b"onetwo"
                    finally:
                        trio.lowlevel.remove_instrument(watch)
                # A server that has not accepted a connection yet does not know that it is closed already.
                await wait_until(lambda: (server.open_now, proxy.open_now, file_descriptors()) == (0, 0, before))
                if not scope.cancelled_caught and watch.seen < step:
                    break
            else:
                pytest.fail("the exchange took more steps than this test expects")
    assert step > 5


async def test_cancelled_read_closes_the_connection() -> None:
    async with serving(HEAD + b"2\r\nhi\r\n") as server:
        with using(server.url) as client:
            async with await client.open("GET", "/") as response:
                assert await response.receive() == b"hi"
                with trio.move_on_after(0.01):
                    await response.receive()
            assert client.statistics().idle == 0
            await settle(server, 0)


async def test_closing_a_response_wakes_its_reader() -> None:
    async with serving(HEAD) as server:
        with using(server.url) as client:
            response = await client.open("GET", "/")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_soon, response.close)
                with pytest.raises(HttpClientError):
                    await response.receive()


async def _close_soon(close: Callable[[], None]) -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
    close()


async def test_bytes_that_came_before_the_deadline_are_received() -> None:
    came = trio.Event()

    async def send(stream: trio.abc.Stream) -> None:
        await stream.send_all(HEAD)
        await trio.sleep(0.02)
        await stream.send_all(b"2\r\nhi\r\n" + END)
        came.set()

    async with serving(send) as server:
        with using(server.url) as client:
            async with await client.open("GET", "/") as response:
                await came.wait()
                assert await response.receive(trio.current_time() - 1) == b"hi"
