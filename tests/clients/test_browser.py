"""What pages in Chromium can do with a node: pages of another origin, files, and pages under a rebound name."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Browser, ServedNode

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

Serve = Callable[..., ServedNode]
PROMPT = {"prompt": "p", "max_tokens": 10, "stream": True}
TEXT = json.dumps(PROMPT)
OPERATION = {"op": "generate", "prompt": "p", "max_tokens": 3}
BODIES = {
    "/v1/generate": PROMPT,
    "/v1/chat/completions": {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2},
    "/v1/completions": {"model": "mock", "prompt": "p", "max_tokens": 2},
    "/v1/responses": {"model": "mock", "input": "p", "background": True},
}


def assert_gets_nothing(browser: Browser, node: ServedNode) -> None:
    """The open page reads nothing of the node, starts nothing on it, and opens no WebSocket."""
    for path, body in BODIES.items():
        assert browser.run("sendBlindly", node.url + path, json.dumps(body)) == "sent"
        for headers in ({"content-type": "application/json"}, {"content-type": "text/plain"}):
            options = {"method": "POST", "body": json.dumps(body), "headers": headers}
            assert browser.run("ask", node.url + path, options) == "TypeError: Failed to fetch"
    for path in ("/v1/models", "/v1/tree", "/metrics", "/v1/streams/req_x"):
        assert browser.run("ask", node.url + path) == "TypeError: Failed to fetch"
    assert browser.run("listen", f"{node.url}/v1/streams/req_x")["how"] == "refused"
    assert browser.run("socket", f"ws://127.0.0.1:{node.port}/v1/ws", OPERATION) == "refused"
    assert node.requests_admitted() == 0


def test_blind_requests_of_an_allowed_page_arrive(browser: Browser, serve: Serve, evil: str) -> None:
    """So that the other tests send what a node without the check would serve."""
    node = serve("--allowed-origins", "*")
    browser.open(evil)
    browser.run("sendBlindly", f"{node.url}/v1/generate", json.dumps({"prompt": "p"}))
    # Two by fetch, a beacon, and one from a frame in a sandbox. A form cannot spell a body without unknown fields.
    assert node.requests_admitted() == 4


def test_page_of_another_origin_gets_nothing(browser: Browser, serve: Serve, evil: str) -> None:
    node = serve()
    browser.open(evil)
    assert_gets_nothing(browser, node)


def test_page_of_another_port_gets_nothing(browser: Browser, serve: Serve, page_port: int) -> None:
    node = serve()
    browser.open(f"http://127.0.0.1:{page_port}")
    assert_gets_nothing(browser, node)


def test_file_gets_nothing(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    node = serve()
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>")
    browser.open(f"file://{page}")
    assert_gets_nothing(browser, node)


def test_page_uses_no_key_that_it_does_not_know(browser: Browser, serve: Serve, evil: str) -> None:
    """A page that knows the key may not use it either, unless the operator allows the page."""
    node = serve(api_key="s3cret")
    browser.open(evil)
    assert_gets_nothing(browser, node)
    options = {"method": "POST", "body": TEXT, "headers": {"x-api-key": "s3cret"}}
    assert browser.run("ask", f"{node.url}/v1/generate", options) == "TypeError: Failed to fetch"
    assert node.requests_admitted() == 0


def test_rebound_name_gets_nothing(browser: Browser, serve: Serve) -> None:
    """To the browser the page, which the attacker's server has sent before, and the node have one origin."""
    node = serve()
    rebound = f"http://evil.example:{node.port}"
    browser.open(f"{rebound}/v1/models")  # a page of this origin
    for path, body in BODIES.items():
        options = {"method": "POST", "body": json.dumps(body), "headers": {"content-type": "application/json"}}
        status, text = browser.run("ask", rebound + path, options)
        assert (status, "allowed_hosts" in text) == (403, True)
    for path in ("/v1/models", "/v1/tree", "/openapi.json", "/v1/streams/req_x", "/none"):
        assert browser.run("ask", rebound + path)[0] == 403
    assert browser.run("listen", f"{rebound}/v1/streams/req_x")["how"] == "refused"
    for host in ("evil.example", "127.0.0.1"):
        assert browser.run("socket", f"ws://{host}:{node.port}/v1/ws", OPERATION) == "refused"
    assert node.requests_admitted() == 0


def test_own_page_is_served(browser: Browser, serve: Serve) -> None:
    node = serve("--allowed-hosts", "llm.example")
    for origin in (node.url, f"http://localhost:{node.port}", f"http://llm.example:{node.port}"):
        browser.open(f"{origin}/v1/models")
        assert browser.run("stream", f"{origin}/v1/generate", PROMPT)["ids"] == list(range(1, 12))
        assert browser.run("socket", f"{origin.replace('http', 'ws')}/v1/ws", OPERATION)[-1] == "done"


@pytest.mark.parametrize("origin", ["app", "null", "*"])
def test_allowed_page_streams(browser: Browser, serve: Serve, app: str, tmp_path: Path, origin: str) -> None:
    node = serve("--allowed-origins", app if origin == "app" else origin, "--rate-limit", "1000/min")
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>")
    browser.open(f"file://{page}" if origin == "null" else app)

    answer = browser.run("stream", f"{node.url}/v1/generate", PROMPT)
    assert (answer["status"], answer["ids"]) == (200, list(range(1, 12)))
    assert answer["pieceMs"] > 50  # the answer came in pieces
    assert int(answer["remaining"]) > 900
    assert answer["requestId"].startswith("req_")
    followed = browser.run("listen", f"{node.url}/v1/streams/{answer['requestId']}")
    assert followed == {"ids": answer["ids"], "opened": 1, "how": "done"}
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
        options = {"method": "POST", "body": json.dumps(BODIES[path]), "headers": {"authorization": "Bearer none"}}
        assert browser.run("ask", node.url + path, options)[0] == 200
    assert browser.run("ask", f"{node.url}/v1/streams/req_x", {"method": "DELETE"})[0] == 404
    assert browser.run("socket", f"ws://127.0.0.1:{node.port}/v1/ws", OPERATION)[-1] == "done"


def test_allowed_page_reads_why_it_was_refused(browser: Browser, serve: Serve, app: str) -> None:
    node = serve("--allowed-origins", app, "--rate-limit", "1/min", api_key="s3cret")
    browser.open(app)
    status, text = browser.run("ask", f"{node.url}/v1/models")
    assert (status, "UNAUTHENTICATED" in text or "invalid_api_key" in text) == (401, True)
    key = {"x-api-key": "s3cret"}
    assert browser.run("stream", f"{node.url}/v1/generate", PROMPT, key)["status"] == 200
    refused = browser.run("stream", f"{node.url}/v1/generate", PROMPT, key)
    assert (refused["status"], refused["shouldRetry"], refused["remaining"]) == (429, "true", "0")
    assert int(refused["retryAfter"]) > 0


def test_page_goes_on_after_its_last_event(browser: Browser, serve: Serve, app: str) -> None:
    """As @microsoft/fetch-event-source does: the same POST again, with the id of the last event."""
    node = serve("--allowed-origins", app)
    browser.open(app)
    first = browser.run("stream", f"{node.url}/v1/generate", PROMPT, {"idempotency-key": "k"}, 4)
    again = {"idempotency-key": "k", "last-event-id": f"{first['ids'][-1]}"}
    rest = browser.run("stream", f"{node.url}/v1/generate", PROMPT, again)
    assert [*first["ids"], *rest["ids"]] == list(range(1, 12))
    assert node.requests_admitted() == 1


class CuttingProxy:
    """Cuts each connection that is to a stream after so many bytes of the answer."""

    def __init__(self, port: int, *, after_bytes: int, cuts: int) -> None:
        self._node_port = port
        self._after_bytes = after_bytes
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._node_port)) as node:
            node.sendall(client.recv(65536))
            left = self._after_bytes if self._cuts > 0 else 1 << 30
            self._cuts -= 1
            while left > 0 and (data := node.recv(65536)):
                client.sendall(data)
                left -= len(data)


@pytest.fixture
def cut_twice() -> Iterator[Callable[[ServedNode], str]]:
    """Starts a proxy that cuts the first two connections in the middle of the answer; returns the proxy's URL."""
    opened: list[CuttingProxy] = []

    def start(node: ServedNode) -> str:
        opened.append(CuttingProxy(node.port, after_bytes=900, cuts=2))
        return opened[-1].url

    yield start
    for each in opened:
        each.close()


def test_event_source_with_a_ticket_survives_cuts(
    browser: Browser, serve: Serve, app: str, cut_twice: Callable[[ServedNode], str]
) -> None:
    node = serve("--allowed-origins", app, "--keep-alive-s", "1", api_key="s3cret", model="mock=mock:step_ms=100")
    key = {"x-api-key": "s3cret"}
    body = {**PROMPT, "max_tokens": 40}
    with httpx.stream("POST", f"{node.url}/v1/generate", json=body, headers=key) as answer:
        request_id = answer.headers["x-request-id"]
        ticket = httpx.post(f"{node.url}/v1/ws/tickets", headers=key).json()["ticket"]
        browser.open(app)
        url = f"{cut_twice(node)}/v1/streams/{request_id}?ticket={ticket}&after=0"
        followed = browser.run("listen", url)
    assert followed == {"ids": list(range(1, 42)), "opened": 3, "how": "done"}
    # An ended stream is not opened again and again.
    ended = browser.run("listen", f"{node.url}/v1/streams/{request_id}?ticket={ticket}&after=41")
    assert ended == {"ids": [], "opened": 0, "how": "refused"}
    assert browser.run("listen", f"{node.url}/v1/streams/{request_id}?ticket=wrong")["how"] == "refused"
