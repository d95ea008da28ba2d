"""The faults of the proxy, with a real echo server behind it."""

import contextlib
import functools
import time
from collections.abc import AsyncIterator

import pytest
import trio

from llmactors.testing.proxy import Proxy

pytestmark = pytest.mark.integration


async def echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(data)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        made = Proxy(listeners[0].socket.getsockname()[1], name="test")
        await nursery.start(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def connect(proxy: Proxy) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", proxy.port)


async def read(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := await stream.receive_some()):
        data += piece
    return data


async def say(stream: trio.SocketStream, data: bytes) -> float:
    """The time from sending some bytes to their echo, in seconds."""
    begun = time.monotonic()
    await stream.send_all(data)
    assert await read(stream, len(data)) == data
    return time.monotonic() - begun


async def silent(stream: trio.SocketStream, seconds: float = 0.15) -> bool:
    with trio.move_on_after(seconds):
        await stream.receive_some()
        return False
    return True


async def test_bytes_pass_unchanged_and_are_counted(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        data = bytes(range(256)) * 4096
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await read(stream, len(data)) == data
        statistics = proxy.statistics()
        assert (statistics.open, statistics.accepted) == (1, 1)
        assert statistics.bytes_up == statistics.bytes_down == len(data)


async def test_end_of_one_side_ends_the_other(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        await stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
    while proxy.statistics().open:  # noqa: ASYNC110
        await trio.sleep(0.005)


async def test_delay_does_not_grow_with_the_number_of_bytes(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        assert await say(stream, b"hello") < 0.1
        with proxy.delayed(0.1):
            begun = time.monotonic()
            for _ in range(10):
                await stream.send_all(b"hello")
                await trio.sleep(0.01)
            assert await read(stream, 50) == b"hello" * 10
            assert 0.2 <= time.monotonic() - begun < 0.8
        assert await say(stream, b"hello") < 0.1


async def test_longest_of_two_delays_counts(proxy: Proxy) -> None:
    with proxy.delayed(0.2), proxy.delayed(0.1):
        assert proxy.delay_s == 0.2
    assert proxy.delay_s == 0.0


async def test_black_hole_is_silent_and_delivers_afterwards(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        with proxy.black_holed():
            await stream.send_all(b"lost?")
            assert await silent(stream)
            async with await connect(proxy) as another:
                await another.send_all(b"hello")
                assert await silent(another)
        assert await read(stream, 5) == b"lost?"


async def test_one_way_black_hole_passes_the_other_direction(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        with proxy.black_holed("down"):
            before = proxy.statistics().bytes_up
            await stream.send_all(b"hello")
            assert await silent(stream)
            assert proxy.statistics().bytes_up == before + 5


async def test_two_black_holes_last_until_the_second_ends(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        with proxy.black_holed():
            with proxy.black_holed():
                await stream.send_all(b"hello")
            assert await silent(stream)
        assert await read(stream, 5) == b"hello"


async def test_cut_resets_every_connection(proxy: Proxy) -> None:
    async with await connect(proxy) as one, await connect(proxy) as two:
        await say(one, b"hello")
        await say(two, b"hello")
        assert proxy.cut() == 2
        for stream in (one, two):
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
                await stream.receive_some()
    async with await connect(proxy) as stream:
        await say(stream, b"hello")


async def test_cut_works_during_a_black_hole(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        with proxy.black_holed():
            await stream.send_all(b"hello")
            proxy.cut()
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
                await stream.receive_some()


async def test_commands_arrive_whose_replies_are_lost(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        before = proxy.statistics()
        with proxy.losing_replies():
            await stream.send_all(b"hello")
            assert await silent(stream)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        after = proxy.statistics()
        assert (after.bytes_up - before.bytes_up, after.bytes_down - before.bytes_down) == (5, 0)
    async with await connect(proxy) as stream:
        await say(stream, b"hello")


async def test_refusing_resets_open_and_new_connections(proxy: Proxy) -> None:
    async with await connect(proxy) as stream:
        await say(stream, b"hello")
        with proxy.refusing():
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            with pytest.raises((OSError, trio.BrokenResourceError)):
                async with await connect(proxy) as another:
                    assert await another.receive_some() != b""
    assert proxy.statistics().refused == 1
    async with await connect(proxy) as stream:
        await say(stream, b"hello")


async def test_client_is_reset_while_the_server_is_down(proxy: Proxy) -> None:
    async with trio.open_nursery() as nursery:
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener[0].socket.getsockname()[1]
        await listener[0].aclose()
        dead = await nursery.start(Proxy(port).run)
        async with await connect(dead) as stream:
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
                await stream.receive_some()
        nursery.cancel_scope.cancel()


async def test_repr_shows_the_faults_of_the_proxy(proxy: Proxy) -> None:
    with proxy.delayed(0.2), proxy.black_holed("up"), proxy.refusing():
        assert repr(proxy) == f"<Proxy test on {proxy.port}, 0 open, delay 0.2 s, silent up, refuses>"
    assert repr(proxy) == f"<Proxy test on {proxy.port}, 0 open, passes>"
