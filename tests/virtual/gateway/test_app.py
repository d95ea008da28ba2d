"""The application over plain ASGI, in states that are hard to reach on a real node."""

import json
from collections.abc import MutableMapping
from typing import Any

import trio
from trio.testing import MockClock

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.errors import Unavailable
from llmactors.gateway.app import App
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.settings import GatewaySettings
from llmactors.http.exchange import Scope
from llmactors.http.inbox import Inbox
from llmactors.ledger import AppendEntry, MemoryLedger
from llmactors.messages import Finished, TokenDelta, Usage
from llmactors.telemetry import Metrics

VERSION = {"http_version": "1.1"}
READY = ModelStatus(ModelState.READY, Capabilities(4, 100, Takeover.EXACT, Batching.CONTINUOUS))


def operated(service: RequestService, directory: ModelDirectory, metrics: Metrics) -> OperatedNode:
    return OperatedNode(
        problems=service.problems,
        tree=lambda: None,  # type: ignore[arg-type,return-value]
        metrics=metrics,
        directory=directory,
        draining=lambda: service.draining,
        ledger_statistics=service.ledger_statistics,
    )


class Rig:
    """An application and one exchange with it."""

    def __init__(self, status: ModelStatus = READY, ledger: MemoryLedger | None = None) -> None:
        self.ledger = ledger or MemoryLedger()
        directory = ModelDirectory(("m",))
        directory.put("m", status)
        self.metrics = Metrics()
        self.service = RequestService(
            GatewaySettings(), ledger=self.ledger, directory=directory, metrics=self.metrics, limit_check=LimitCheck()
        )
        self.app = App(self.service, operated(self.service, directory, self.metrics))
        self.inbox = Inbox()
        self.sent: list[MutableMapping[str, Any]] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def run(self, method: str, path: str, body: object = None) -> None:
        scope: Scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [], **VERSION}
        data = b"" if body is None else json.dumps(body).encode()
        await self.inbox.put({"type": "http.request", "body": data, "more_body": False})
        await self.app(scope, self.inbox, self.send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


async def test_draining_node_refuses_requests_and_handshakes() -> None:
    rig = Rig()
    rig.service.drain()
    await rig.run("POST", "/v1/generate", {"prompt": "p"})
    assert (rig.status, json.loads(rig.body)["error"]["code"]) == (503, "UNAVAILABLE")
    assert rig.headers[b"retry-after"] == b"1"

    rig.sent.clear()
    scope: Scope = {"type": "websocket", "path": "/v1/ws", "headers": [(b"x-request-id", b"mine")]}
    inbox = Inbox()
    await inbox.put({"type": "websocket.connect"})
    await rig.app(scope, inbox, rig.send)
    assert rig.sent[0]["type"] == "websocket.http.response.start"
    assert (rig.status, json.loads(rig.body)["error"]["code"]) == (503, "UNAVAILABLE")
    assert (rig.headers[b"retry-after"], rig.headers[b"x-client-request-id"]) == (b"1", b"mine")


async def test_model_that_is_starting_is_503_with_retry_after() -> None:
    rig = Rig(ModelStatus())
    await rig.run("POST", "/v1/generate", {"prompt": "p"})

    assert (rig.status, json.loads(rig.body)["error"]["message"]) == (503, "model m is still starting")
    assert int(rig.headers[b"retry-after"]) >= 1


async def test_missing_body_is_408_after_body_s(autojump_clock: MockClock) -> None:
    rig = Rig()
    begun = trio.current_time()
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/generate",
        "query_string": b"",
        "headers": [],
        **VERSION,
    }
    await rig.app(scope, rig.inbox, rig.send)

    assert rig.status == 408
    assert trio.current_time() - begun == rig.service.settings.body_s


async def test_ledger_failure_mid_stream_is_an_error_event() -> None:
    class Fragile(MemoryLedger):
        async def follow(self, request_id: str, after: int = 0) -> Any:
            follower = await super().follow(request_id, after)
            take = follower.take

            def fail_later() -> Any:
                if follower.cursor:
                    raise Unavailable("the ledger is away", retry_after_s=1.0)
                return take()

            follower.take = fail_later  # type: ignore[method-assign]
            return follower

    rig = Rig(ledger=Fragile())

    async def work() -> None:
        await rig.ledger.beat("w")
        await rig.ledger.wait_work("w", "m")
        (claim,) = await rig.ledger.claim("w", "m", 1)
        for seq in (1, 2):
            await rig.ledger.append([AppendEntry(claim.request.id, claim.epoch, seq, [TokenDelta(seq, f"t{seq}")])])
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        nursery.start_soon(rig.service.flusher.run)
        await rig.run("POST", "/v1/generate", {"prompt": "p", "stream": True})
        nursery.cancel_scope.cancel()

    *_, last = rig.body.decode().strip().split("\n\n")
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["error"]["code"] == "UNAVAILABLE"
    assert b"t1" in rig.body
    assert rig.sent[-1]["more_body"] is False
    assert 'llm_gateway_errors_total{code="UNAVAILABLE"} 1.0' in rig.metrics.render()[0].decode()


async def test_unexpected_exception_is_a_500_without_details() -> None:
    class Broken(MemoryLedger):
        async def admit(self, candidates: Any) -> Any:
            raise RuntimeError("secret detail")

    rig = Rig(ledger=Broken())
    await rig.run("POST", "/v1/generate", {"prompt": "p"})

    assert (rig.status, json.loads(rig.body)["error"]["code"]) == (500, "INTERNAL")
    assert b"secret" not in rig.body
    assert json.loads(rig.body)["error"]["request_id"] == rig.headers[b"x-request-id"].decode()


async def test_cancelled_json_request_leaves_nothing_in_flight() -> None:
    rig = Rig()
    with trio.move_on_after(0.05):
        await rig.run("POST", "/v1/generate", {"prompt": "p"})

    assert rig.sent == []
    assert "llm_gateway_inflight_requests 0.0" in rig.metrics.render()[0].decode()
    assert "0 queued" not in repr(rig.ledger)


async def test_json_answer_joins_the_tokens() -> None:
    rig = Rig()

    async def work() -> None:
        await rig.ledger.beat("w")
        await rig.ledger.wait_work("w", "m")
        (claim,) = await rig.ledger.claim("w", "m", 1)
        deltas = [TokenDelta(1, "a"), TokenDelta(2, ""), TokenDelta(3, "b")]
        await rig.ledger.append([AppendEntry(claim.request.id, claim.epoch, 1, deltas, Finished("stop", Usage(1, 3)))])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await rig.run("POST", "/v1/generate", {"prompt": "p"})
    assert json.loads(rig.body)["text"] == "ab"
