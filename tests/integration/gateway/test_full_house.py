"""A server with all connections in use still answers health probes, and says to others why it does not serve them."""

import contextlib
import functools
import socket

import httpx
import pytest
import trio

from llmactors.http.connection_limits import Capacity
from llmactors.http.server import ServerSettings
from llmactors.testing.node import NodeProcess, local_node
from tests.support.raw_http import RawExchange

pytestmark = pytest.mark.integration


def with_capacity(monkeypatch: pytest.MonkeyPatch, **capacity: int) -> None:
    settings = functools.partial(ServerSettings, capacity=Capacity(**capacity))
    monkeypatch.setattr("llmactors.system.gateway_actors.ServerSettings", settings)


@pytest.mark.parametrize(
    ("capacity", "status", "code"),
    [
        ({"most": 3, "of_one_address": 10, "reserve": 2}, 503, "UNAVAILABLE"),
        ({"most": 10, "of_one_address": 3, "reserve": 2}, 429, "RATE_LIMIT"),
    ],
)
async def test_server_without_free_connections_answers_health(
    capacity: dict[str, int], status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_capacity(monkeypatch, **capacity)
    async with local_node() as node, contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", node.port))
        for path in ("/livez", "/readyz", "/metrics"):
            response = await node.client.get(path)
            assert (response.status_code, response.headers["connection"]) == (200, "close"), path
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/generate"), ("GET", "/nothing")):
            response = await node.client.request(method, path)
            assert response.status_code == status, path
            assert response.headers["retry-after"] == "1"
            assert code in response.text.upper()
        handshake = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
        async with await RawExchange.open(node.url, "GET", "/v1/ws", headers={**handshake, **key}) as refused:
            assert refused.status == status
    async with local_node() as node:
        assert (await node.client.get("/v1/models")).status_code == 200


async def test_connections_are_served_again_once_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with_capacity(monkeypatch, most=3, of_one_address=3, reserve=2)
    async with local_node() as node:
        silent = [await trio.open_tcp_stream("127.0.0.1", node.port) for _ in range(3)]
        assert (await node.client.get("/v1/models")).status_code == 429
        for stream in silent:
            await stream.aclose()
        with trio.fail_after(5):
            while (await node.client.get("/v1/models")).status_code != 200:  # noqa: ASYNC110 - the server sees the ends
                await trio.sleep(0.01)


def test_few_open_files_lower_the_number_of_connections() -> None:
    """The log has one line about this, and the health of the node is answered."""
    limited = NodeProcess("--model", "mock", "--bind", "127.0.0.1:0", prefix=("prlimit", "--nofile=64:64"))
    with limited as node, contextlib.ExitStack() as stack:
        url = node.wait_ready()
        port = int(url.rpartition(":")[2])
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert httpx.get(f"{url}/livez").status_code == 200
        assert node.stop() == 0
        errors = node.errors()
    assert errors.count("limit on open files") == 1
    assert errors.count("cannot accept") <= 3
