"""A node behind Debian's nginx: with the file of `ops/nginx`, and with a configuration that only passes requests on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Browser, ServedNode, free_ports
from tests.clients.proxies import nginx_with_tls, nginx_without_tls

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

Serve = Callable[..., ServedNode]
Nginx = Callable[[Sequence[str]], None]
PROMPT = {"prompt": "p", "max_tokens": 10, "stream": True}
OPERATION = {"op": "generate", "prompt": "p", "max_tokens": 3}
STRONG = "0123456789abcdef0123456789abcdef"


def plain_server(port: int, node: ServedNode) -> str:
    """Passes requests on with nginx's defaults: HTTP/1.0, and the node's own address as `Host`."""
    return f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {node.url}; }} }}"


def client_at(address: str, url: str, key: str) -> httpx.Client:
    """A client with an address of its own, as nginx sees it."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=url, transport=transport, headers={"x-api-key": key}, timeout=30)


def statuses(url: str, address: str, keys: Sequence[str]) -> list[int]:
    found = []
    for key in keys:
        with client_at(address, url, key) as client:
            found.append(client.get("/v1/models").status_code)
    return found


WRONG = [f"wrong {number}" for number in range(30)]


@pytest.mark.parametrize("trusted", [True, False])
def test_page_behind_nginx_streams(
    browser: Browser, serve: Serve, nginx: Nginx, certificate: Path, evil: str, trusted: bool
) -> None:
    [port] = free_ports(1)
    flags = ("--trusted-proxies", "127.0.0.1") if trusted else ()
    node = serve("--allowed-hosts", "llm.example", *flags)
    nginx([nginx_with_tls(port, certificate, node.address)])
    origin = f"https://llm.example:{port}"
    browser.open(f"{origin}/v1/models")
    answer = browser.run("stream", f"{origin}/v1/generate", PROMPT)
    assert (answer["status"], answer["ids"]) == (200, list(range(1, 12)))
    assert answer["pieceMs"] > 50  # nginx has not held the answer back
    assert browser.run("listen", f"{origin}/v1/streams/{answer['requestId']}")["ids"] == answer["ids"]
    assert browser.run("socket", f"wss://llm.example:{port}/v1/ws", OPERATION)[-1] == "done"
    served = node.requests_admitted()

    browser.open(evil)
    assert browser.run("sendBlindly", f"{origin}/v1/generate", '{"prompt": "p"}') == "sent"
    assert browser.run("socket", f"wss://llm.example:{port}/v1/ws", OPERATION) == "refused"
    browser.open(f"https://evil.example:{port}/v1/models")  # the name is rebound to nginx
    status, text = browser.run("ask", f"https://evil.example:{port}/v1/models")
    assert (status, "allowed_hosts" in text) == (403, True)
    assert node.requests_admitted() == served


def test_plain_nginx_streams_to_programs(serve: Serve, nginx: Nginx) -> None:
    [port] = free_ports(1)
    node = serve()
    nginx([plain_server(port, node)])
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/generate", json=PROMPT) as answer:
        pieces = list(answer.iter_text())
    assert len(pieces) > 3
    assert "".join(pieces).count("event: token") == 10


def test_clients_of_a_trusted_nginx_are_told_apart(serve: Serve, nginx: Nginx) -> None:
    [port] = free_ports(1)
    node = serve("--trusted-proxies", "127.0.0.1", "--rate-limit", "2/min", api_key="s3cret")
    nginx([nginx_without_tls(port, node.address)])
    url = f"http://127.0.0.1:{port}"
    assert statuses(url, "127.0.0.2", WRONG) == [401] * 20 + [429] * 10
    assert statuses(url, "127.0.0.3", ["wrong", "s3cret"]) == [401, 200]
    # What a client writes itself is not believed: another address in the header is no other client.
    with client_at("127.0.0.2", url, "wrong") as client:
        for header in ({"x-forwarded-for": "192.0.2.9"}, {"forwarded": "for=192.0.2.9"}):
            assert client.get("/v1/models", headers=header).status_code == 429


@pytest.mark.parametrize("api_key", ["s3cret", STRONG])
@pytest.mark.parametrize("trusted", [(), ("--trusted-proxies", "127.0.0.1")])
def test_wrong_keys_behind_nginx_lock_nobody_out(
    serve: Serve, nginx: Nginx, api_key: str, trusted: tuple[str, ...]
) -> None:
    [port] = free_ports(1)
    node = serve(*trusted, api_key=api_key)
    nginx([plain_server(port, node)])
    url = f"http://127.0.0.1:{port}"
    assert statuses(url, "127.0.0.2", WRONG) == [401] * 20 + [429] * 10
    assert statuses(url, "127.0.0.3", [api_key] * 3) == [200] * 3
    assert statuses(url, "127.0.0.2", ["wrong"]) == [429]


def test_limit_counts_the_clients_of_a_trusted_nginx(serve: Serve, nginx: Nginx, certificate: Path) -> None:
    trusting, unknowing = free_ports(2)
    nodes = [serve("--rate-limit", "1/min", *flags) for flags in (("--trusted-proxies", "127.0.0.1"), ())]
    servers = [
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {node.url}; "
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; } }"
        for port, node in zip((trusting, unknowing), nodes, strict=True)
    ]
    nginx(servers)

    def limited(port: int) -> list[int]:
        found = []
        for address in ("127.0.0.2", "127.0.0.2", "127.0.0.3"):
            with client_at(address, f"http://127.0.0.1:{port}", "") as client:
                found.append(client.post("/v1/generate", json={"prompt": "p", "max_tokens": 1}).status_code)
        return found

    assert limited(trusting) == [200, 429, 200]
    assert limited(unknowing) == [200, 429, 429]
