"""The HTTP client with bodies that are read in passes, and with bytes that are absorbed while their reader waits."""

import math
from collections.abc import Awaitable, Callable

import pytest
import trio

from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import BadResponse, ConnectionCut
from llmactors.http.client_response import ClientResponse
from tests.integration.http.test_client import END, HEAD, serving, settle

pytestmark = pytest.mark.integration
GATHERS = ClientSettings(gathers=True)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pieces(*parts: bytes, pause_s: float = 0.02) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    """An answer whose parts are sent one after the other."""

    async def send(stream: trio.abc.Stream) -> None:
        for part in parts:
            await stream.send_all(part)
            await trio.sleep(pause_s)

    return send


async def absorb_all(response: ClientResponse) -> None:
    while await response.receive(absorb=lambda _: math.inf):
        pass  # what came together with the head


async def test_absorbed_bytes_are_not_returned() -> None:
    taken: list[bytes] = []

    def absorb(data: bytes) -> float | None:
        taken.append(data)
        return None if data == b"stop" else math.inf

    answer = pieces(HEAD, chunk(b"a"), chunk(b"b")[:3], chunk(b"b")[3:], chunk(b"stop"), chunk(b"c") + END)
    async with serving(answer) as server:
        client = HttpClient(server.url, settings=GATHERS)
        async with await client.open("GET", "/") as response:
            assert await response.receive(absorb=absorb) == b"stop"
            assert taken == [b"a", b"b", b"stop"]
            assert await response.receive(absorb=absorb) == b""
            assert taken[3:] == [b"c"]
        assert client.statistics().idle == 1
        client.close()


async def test_absorbed_bytes_move_the_deadline() -> None:
    answer = pieces(HEAD, *[chunk(b"x")] * 8, pause_s=0.05)
    async with serving(answer) as server:
        client = HttpClient(server.url, settings=GATHERS)
        async with await client.open("GET", "/") as response:
            begun = trio.current_time()
            with pytest.raises(trio.TooSlowError):
                await response.receive(begun + 0.2, lambda _: trio.current_time() + 0.2)
            assert 0.5 < trio.current_time() - begun < 5
        client.close()


async def test_deadline_holds_where_bytes_do_not_move_it() -> None:
    answer = pieces(HEAD, *[chunk(b":\n")] * 200, pause_s=0.01)
    async with serving(answer) as server:
        client = HttpClient(server.url, settings=GATHERS)
        async with await client.open("GET", "/") as response:
            deadline = trio.current_time() + 0.2
            with trio.fail_after(5), pytest.raises(trio.TooSlowError):
                await response.receive(deadline, lambda _: deadline)
        client.close()


async def test_error_of_absorb_reaches_the_reader() -> None:
    def absorb(_: bytes) -> float | None:
        raise ZeroDivisionError

    async with serving(pieces(HEAD, chunk(b"a"))) as server:
        client = HttpClient(server.url, settings=GATHERS)
        async with await client.open("GET", "/") as response:
            with pytest.raises(ZeroDivisionError):
                await response.receive(absorb=absorb)
        client.close()


@pytest.mark.parametrize(
    ("last", "error"), [(b"zz\r\n", BadResponse), (b"5\r\nab", ConnectionCut)], ids=["no chunk", "cut"]
)
async def test_broken_body_ends_a_wait_that_absorbs(last: bytes, error: type[Exception]) -> None:
    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(HEAD + chunk(b"a"))
        await trio.sleep(0.02)
        await stream.send_all(last)
        await stream.aclose()

    async with serving(answer) as server:
        client = HttpClient(server.url, settings=GATHERS)
        async with await client.open("GET", "/") as response:
            with pytest.raises(error):
                await absorb_all(response)
        await settle(server, 0)
        client.close()


async def test_cancelled_reader_closes_the_connection() -> None:
    async with serving(pieces(HEAD, *[chunk(b"x")] * 200)) as server:
        client = HttpClient(server.url, settings=GATHERS)
        with trio.move_on_after(0.1) as scope:
            async with await client.open("GET", "/") as response:
                await response.receive(absorb=lambda _: math.inf)
        assert scope.cancelled_caught
        await settle(server, 0)
        client.close()


async def test_next_request_has_the_connection_of_a_gathered_body() -> None:
    async with serving(HEAD + chunk(b"a") + END) as server:
        client = HttpClient(server.url, settings=GATHERS)
        for _ in range(3):
            assert (await client.fetch("GET", "/")).body == b"a"
        assert server.connections == 1
        client.close()
