"""Thousands of requests that were abandoned in every way leave nothing in a node."""

import gc
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import httpx
import pytest
import trio

from llmactors.batcher.actor import BatcherActor
from llmactors.gateway.native.websocket import SocketSession
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.streaming.sse_stream import SseStream
from llmactors.http.connection import ServerConnection
from llmactors.http.exchange import Exchange
from llmactors.http.inbox import Inbox
from llmactors.http.server import Server
from llmactors.ledger import LedgerSettings
from llmactors.ledger.core.record import Record
from llmactors.ledger.follower import LogFollower
from llmactors.messages import GenerateRequest
from llmactors.testing.node import LocalNode, local_node, wait_until
from tests.support.leaving import BACKGROUND, CHOICES, ROUTES, Client, Way
from tests.support.residue import residue
from tests.support.watched_mock import watched_model

pytestmark = pytest.mark.integration

T = TypeVar("T")

COUNT = 1500
AT_ONCE = 50
KINDS = (LogFollower, SseStream, Exchange, SocketSession, ServerConnection, Inbox, Record, GenerateRequest)


def left_in(node: LocalNode) -> dict[str, int]:
    """What requests have left in the ledger, but for the records of their usage, which are kept for days."""
    return {path: size for path, size in residue(node.node.ledger).items() if not path.startswith("_life.usage.")}


def every(kind: type[T]) -> Iterator[T]:
    return (each for each in gc.get_objects() if type(each) is kind)


def parts(node: LocalNode) -> tuple[Server, RequestService, BatcherActor]:
    """Whether an object belongs to this node. Objects of earlier nodes may not be collected yet."""
    [server] = [each for each in every(Server) if each._listening is node.node.listening]
    [service] = [each for each in every(RequestService) if each._ledger is node.node.ledger]
    [batcher] = [each for each in every(BatcherActor) if each._ledger is node.node.ledger]
    return server, service, batcher


def alive() -> Counter[str]:
    """The number of objects that belong to a single request, by class."""
    gc.collect()
    return Counter({kind.__name__: sum(1 for _ in every(kind)) for kind in KINDS})


async def give_up(node: LocalNode, rng: random.Random, number: int, room: trio.Semaphore) -> None:
    route, way = rng.choice((*ROUTES, CHOICES)), rng.choice(list(Way))
    prompt = f"number {number}"
    opened: AbstractAsyncContextManager[Client] = route.open(node.url, prompt, 400)
    try:
        with trio.fail_after(10):
            async with opened as client:
                await trio.sleep(rng.choice((0, 0, 0.002, 0.02)))
                records = node.node.ledger._records.values()
                found = next((each.request_id for each in records if each.request.text.endswith(prompt)), None)
                if found is None and way is Way.CANCEL:
                    way = Way.FIN
                if way is Way.CANCEL and route is BACKGROUND:
                    # Nobody reads the response, so that on a busy machine its `background_s` may be over before.
                    async with httpx.AsyncClient(trust_env=False) as other:
                        await other.delete(f"{node.url}/v1/streams/{found}")
                else:
                    await client.leave(way, found or "")
                if way is Way.CANCEL:
                    await client.read_end()
    finally:
        room.release()


async def settle(node: LocalNode) -> None:
    """Waits until only the connection of the test's own client is open."""
    server, service, _ = parts(node)
    await wait_until(lambda: "0 queued, 0 running, 0 ended" in repr(node.node.ledger))
    await wait_until(lambda: server.connections <= 1)
    await wait_until(lambda: not node.node.ledger._life.archive._tombstones)
    await wait_until(lambda: not service.flusher._marked)


async def test_thousands_of_abandoned_requests_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    brief = LedgerSettings(retention_s=0.1, tombstone_s=0.1)
    monkeypatch.setattr("llmactors.system.wiring.ledger_settings", lambda _: brief)
    model, watch = watched_model("slots=24,step_ms=1,prefill_ms=2")
    async with local_node(
        model, resume_grace_s=0.02, background_s=0.2, response_ttl_s=0.1, rate_limit="1000000/s"
    ) as node:

        async def good_request() -> None:
            answer = await node.client.post("/v1/generate", json={"prompt": "still there", "max_tokens": 2})
            assert answer.status_code == 200
            await settle(node)

        await good_request()
        before, residue_before = alive(), left_in(node)
        room = trio.Semaphore(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for number in range(COUNT):
                await room.acquire()
                nursery.start_soon(give_up, node, rng, number, room)
        await good_request()

        statistics = await node.node.ledger.statistics()
        # Some clients left before their request was read.
        assert statistics.accepted_total > 0.5 * COUNT, seed
        assert statistics.accepted_total == statistics.ended_total
        assert watch.holding == set(), seed
        assert not alive() - before, seed
        assert left_in(node) == residue_before
        server, service, batcher = parts(node)
        assert (service._open, service.flusher._streams) == (set(), set())
        # The test has a connection of its own.
        assert server._limits._open == 1
        held: dict[str, Any] = {name: getattr(batcher, name) for name in ("_running", "_former")}
        held["outbox"] = batcher._writer.outbox
        assert not any(len(each) if hasattr(each, "__len__") else bool(each) for each in held.values()), held
        metrics = (await node.client.get("/metrics")).text
        assert "llm_gateway_inflight_requests 0.0" in metrics
