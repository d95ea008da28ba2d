"""The server accepts connections despite errors, and within its limits."""

import contextlib
import errno
import socket
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from llmactors.errors import BindError, ConfigError
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.http.server import (
    ACCEPT_AT_ONCE,
    BEGUN_AT_ONCE,
    BEGUN_PER_PASS,
    ListeningSocket,
    Server,
    ServerSettings,
)
from tests.support.passes import counted_passes


class Listener:
    """A fake listener that first raises errors, and then returns the waiting connections."""

    def __init__(self, *errors: int, waiting: int = 1) -> None:
        self._errors = list(errors)
        self.waiting = waiting

    def accept(self) -> tuple[str, None]:
        if self._errors:
            raise OSError(self._errors.pop(0), "trouble")
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        self.waiting -= 1
        return "a connection", None


async def accept(listener: Listener, *, turns: int = 1) -> list[Any]:
    """The connections that the server begins to serve in some turns."""
    begun: list[Any] = []
    listening = ListeningSocket("127.0.0.1:0")
    try:
        server = Server(None, listening, ServerSettings(), NATIVE_ERRORS)  # type: ignore[arg-type]
        server._begin = lambda _, raw, nursery, **more: begun.append(raw)  # type: ignore[method-assign]
        for _ in range(turns):
            await server._accept_waiting(listener, None)  # type: ignore[arg-type]
    finally:
        listening.close()
    return begun


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_accept_waits_while_no_file_descriptor_is_free(error: int, autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    assert await accept(Listener(error, error), turns=3) == ["a connection"]
    assert trio.current_time() - begun == pytest.approx(0.2)


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO])
async def test_accept_ignores_clients_that_are_gone(error: int) -> None:
    assert await accept(Listener(error, error)) == ["a connection"]


async def test_other_errors_end_the_server() -> None:
    with pytest.raises(OSError, match="trouble"):
        await accept(Listener(errno.EBADF))


async def test_one_turn_accepts_all_waiting_up_to_a_bound() -> None:
    assert len(await accept(Listener(waiting=ACCEPT_AT_ONCE - 1))) == ACCEPT_AT_ONCE - 1
    assert len(await accept(Listener(waiting=2 * ACCEPT_AT_ONCE))) == ACCEPT_AT_ONCE


async def test_few_requests_of_a_burst_begin_in_one_pass() -> None:
    """This holds for new and for kept connections."""
    begun: list[int] = []
    clients, rounds = 2 * BEGUN_AT_ONCE, 2

    async def app(scope: object, receive: object, send: Any) -> None:
        begun.append(passes.now)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    listening = ListeningSocket("127.0.0.1:0")
    with counted_passes() as passes:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Server(app, listening, ServerSettings(), NATIVE_ERRORS).serve)
            await wait_all_tasks_blocked()
            with contextlib.ExitStack() as stack:
                address = listening.socket.getsockname()
                sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(clients)]
                for _ in range(rounds):
                    for each in sockets:  # without a pass of the scheduler between two
                        each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    for each in sockets:
                        await trio.lowlevel.wait_readable(each)
                        assert each.recv(4096).endswith(b"ok")
            nursery.cancel_scope.cancel()
    listening.close()

    assert len(begun) == rounds * clients
    assert max(begun.count(at) for at in set(begun)) <= BEGUN_AT_ONCE + BEGUN_PER_PASS


async def test_long_pipeline_is_answered_to_its_end() -> None:
    """Requests that end while another part of the pipeline is parsed must not end the parsing."""
    count, rounds = 100, 4

    async def app(scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    # The bodies shift the events that the connection counts against the writes that it counts.
    pipeline = (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" * 2 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * count
    )
    listening = ListeningSocket("127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(app, listening, ServerSettings(), NATIVE_ERRORS).serve)
        await wait_all_tasks_blocked()
        for _ in range(rounds):
            found = b""
            async with await trio.open_tcp_stream(*listening.socket.getsockname()) as stream:
                await stream.send_all(pipeline)
                with trio.fail_after(5):
                    while found.count(b"HTTP/1.1 200") < count + 2:
                        found += await stream.receive_some()
        nursery.cancel_scope.cancel()
    listening.close()


async def test_drain_answers_requests_already_received() -> None:
    """This includes the requests of a burst that still wait for their turn."""

    async def app(scope: object, receive: object, send: Any) -> None:
        drain.set()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    drain = trio.Event()
    listening = ListeningSocket("127.0.0.1:0")
    server = Server(app, listening, ServerSettings(), NATIVE_ERRORS)
    with contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            await wait_all_tasks_blocked()
            address = listening.socket.getsockname()
            sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(3 * BEGUN_AT_ONCE)]
            await wait_all_tasks_blocked()
            for each in sockets:
                each.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await drain.wait()
            with trio.fail_after(10):
                await server.drain()
            nursery.cancel_scope.cancel()
        answers = [each.recv(4096) for each in sockets]
    assert [answer[-2:] for answer in answers] == [b"ok"] * len(sockets)


def test_address_in_use_is_reported_at_once() -> None:
    first = ListeningSocket("127.0.0.1:0")
    first.listen()
    try:
        with pytest.raises(BindError, match="another process listens there"):
            ListeningSocket(first.url.removeprefix("http://"))
    finally:
        first.close()


@pytest.mark.parametrize("bind", ["", "8000", "localhost", "localhost:", ":x", "a:70000", "a:-1"])
def test_malformed_address_is_refused(bind: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        ListeningSocket(bind)


def test_ipv6_address_is_written_as_a_url() -> None:
    try:
        listening = ListeningSocket("[::1]:0")
    except BindError:
        pytest.skip("no IPv6 here")
    with listening.socket:
        assert listening.url.startswith("http://[::1]:")
