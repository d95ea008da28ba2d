"""What a client sees behind nginx and Caddy, with the files of `ops/`: gaps, WebSockets, addresses, a lost gateway."""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.clients.conftest import ServedNode, free_ports
from tests.clients.proxies import caddy_without_tls, nginx_without_tls
from tests.conftest import Figures

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

Serve = Callable[..., ServedNode]
Proxy = Callable[..., str]
STEP_S, TOKENS = 0.02, 60


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Starts the proxy in front of one or two gateways, and returns its URL."""
    [port] = free_ports(1)
    started = request.getfixturevalue(request.param)

    def start(*gateways: str) -> str:
        if request.param == "nginx":
            started([nginx_without_tls(port, *gateways)])
        else:
            started(caddy_without_tls(port, *gateways), port)
        return f"http://127.0.0.1:{port}"

    return start


def statuses(url: str, address: str, count: int, headers: Sequence[tuple[str, str]] = ()) -> list[int]:
    """The statuses of short requests from an address."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=url, transport=transport, headers=list(headers), timeout=30) as client:
        body = {"prompt": "p", "max_tokens": 1}
        return [client.post("/v1/generate", json=body).status_code for _ in range(count)]


def test_proxy_holds_no_token_back(
    serve: Serve, proxy: Proxy, figures: Figures, request: pytest.FixtureRequest
) -> None:
    """Tokens come one by one while the model makes them."""
    url = proxy(serve().address)
    times = []
    body = {"prompt": "p", "max_tokens": TOKENS, "stream": True}
    with httpx.stream("POST", f"{url}/v1/generate", json=body) as answer:
        for piece in answer.iter_text():
            times += [time.monotonic()] * piece.count("event: token")
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == TOKENS
    assert times[-1] - times[0] > TOKENS * STEP_S / 2
    assert statistics.median(gaps) < 2 * STEP_S
    name = request.node.callspec.params["proxy"]
    figures("gaps of a model that steps every 20 ms", f"{name}, p50", f"{1000 * statistics.median(gaps):.0f} ms")
    figures("gaps of a model that steps every 20 ms", f"{name}, longest", f"{1000 * max(gaps):.0f} ms")


def test_proxy_passes_websockets(serve: Serve, proxy: Proxy) -> None:
    url = proxy(serve().address)

    async def talk() -> list[str]:
        async with open_websocket_url(f"ws{url.removeprefix('http')}/v1/ws") as socket:
            await socket.send_message(json.dumps({"op": "generate", "prompt": "p", "max_tokens": 3}))
            found: list[str] = []
            while not {"done", "error"} & set(found):
                found.append(json.loads(await socket.get_message())["event"])
            return found

    assert trio.run(talk)[-1] == "done"


def test_limit_counts_each_client_of_the_proxy(serve: Serve, proxy: Proxy) -> None:
    """What a client says of its own address is not believed."""
    url = proxy(serve("--trusted-proxies", "127.0.0.1", "--rate-limit", "2/min").address)
    assert statuses(url, "127.0.0.2", 3) == [200, 200, 429]
    assert statuses(url, "127.0.0.3", 1) == [200]
    for name, value in (("x-forwarded-for", "192.0.2.9"), ("forwarded", "for=192.0.2.9")):
        assert statuses(url, "127.0.0.2", 1, [(name, value)]) == [429]


def test_gateway_that_is_away_is_passed_over(serve: Serve, proxy: Proxy) -> None:
    [dead] = free_ports(1)
    url = proxy(f"127.0.0.1:{dead}", serve().address)
    assert statuses(url, "127.0.0.2", 8) == [200] * 8
