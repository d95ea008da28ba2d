"""An error that no restart can mend ends the node, wherever the HTTP server or the API meets the error."""

import contextlib
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest
import structlog.testing
import trio

from llmactors.actors import fatal
from llmactors.config import Settings
from llmactors.gateway.client_rules import ClientRules
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.sse_stream import SseStream
from llmactors.http.http1 import Http1
from llmactors.system.node import Node
from llmactors.telemetry import Metrics
from llmactors.testing.node import mock_model, wait_until

pytestmark = pytest.mark.integration

ERRORS: dict[str, Callable[[], BaseException]] = {
    "memory": MemoryError,
    "trio": lambda: trio.TrioInternalError("broken"),
    "exit": lambda: SystemExit(3),
}
PLACES = {
    "client rules": (ClientRules, "resolve_client", "GET", "/livez", None),
    "handler": (RequestService, "admit", "POST", "/v1/generate", {"prompt": "hi"}),
    "choices": (RequestService, "own_follower", "POST", "/v1/completions", {"model": "mock", "prompt": "hi", "n": 2}),
    "page": (Metrics, "render", "GET", "/metrics", None),
    "scrape": (Metrics, "tasks", "GET", "/metrics", None),
    "flusher": (SseStream, "_flush", "POST", "/v1/generate", {"prompt": "hi", "stream": True}),
    "bytes": (Http1, "received", "GET", "/livez", None),
}


HANDSHAKE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def nested(error: BaseException, depth: int) -> BaseException:
    """The error inside of `depth` - 1 exception groups, as nurseries make them."""
    for level in range(1, depth):
        error = BaseExceptionGroup(f"level {level}", [error, ValueError("another")])
    return error


async def ended_by(ask: Callable[[str], object], node: Node) -> BaseException | None:
    """The unmendable error that ends `node` after `ask` was called with the URL of the node."""
    found: list[BaseException] = []

    async def run() -> None:
        try:
            await node.run()
        except BaseException as error:  # noqa: BLE001 - the error is what the test asks for
            found.append(error)

    # The tracebacks in the log take longer to render than the rest of the test.
    with trio.fail_after(10), structlog.testing.capture_logs():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await wait_until(lambda: not node.directory.problems())
            await wait_until(lambda: node.tree.actor("node/http/gateway").state == "running")
            with contextlib.suppress(httpx.HTTPError):
                await ask(node.url)  # type: ignore[misc]
            await wait_until(lambda: bool(found))
    return fatal(found[0])


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("place", PLACES)
async def test_fatal_error_in_the_api_ends_the_node(place: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, method, path, body = PLACES[place]

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await client.request(method, path, json=body)

    for depth in (1, 2, 3):
        error = ERRORS[kind]()
        monkeypatch.setattr(owner, name, failing(nested(error, depth)))
        assert await ended_by(ask, Node(Settings(bind="127.0.0.1:0"), [mock_model()])) is error


@pytest.mark.parametrize("kind", ERRORS)
async def test_fatal_error_in_a_websocket_ends_the_node(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(url: str) -> None:
        address = httpx.URL(url)
        async with await trio.open_tcp_stream(address.host, address.port or 0) as stream:
            await stream.send_all(HANDSHAKE)
            assert b" 101 " in await stream.receive_some()
            message = b'{"op": "generate", "prompt": "hi"}'
            await stream.send_all(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some()

    for depth in (1, 2, 3):
        error = ERRORS[kind]()
        monkeypatch.setattr(RequestService, "admit", failing(nested(error, depth)))
        assert await ended_by(ask, Node(Settings(bind="127.0.0.1:0"), [mock_model()])) is error


PROGRAM = """
import sys
from llmactors.cli import main
from llmactors.gateway.request_service import RequestService

depth = int(sys.argv[1])

def fail(self, *_, **__):
    error = MemoryError()
    for level in range(1, depth):
        error = BaseExceptionGroup("level", [error])
    raise error

RequestService.admit = fail
main(["serve", "--model", "mock", "--bind", "127.0.0.1:0", "--log-format", "console"])
"""


def test_process_without_memory_ends_with_one_line() -> None:
    command = [sys.executable, "-c", PROGRAM]
    processes = [
        subprocess.Popen([*command, str(depth)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for depth in (1, 2, 3)
    ]
    for process in processes:
        assert process.stdout is not None
        url = process.stdout.readline().rpartition(" on ")[2].strip()
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{url}/v1/generate", json={"prompt": "hi"}, trust_env=False)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 70, err
        assert err.splitlines()[-1] == "llmactors: out of memory"
        assert "Traceback" not in err
