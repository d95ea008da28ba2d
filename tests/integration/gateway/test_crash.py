"""A crash of the gateway actor cuts its connections and loses nothing else, and its clients reconnect."""

from typing import Any

import h11
import httpx
import pytest
import trio

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle
from tests.support.raw_http import RawExchange
from tests.support.streams import CUTS, StreamRecord, follow, read_stubbornly

pytestmark = pytest.mark.integration

GATEWAY = "node/http/gateway"


async def test_streams_continue_after_a_gateway_crash() -> None:
    async with local_node(mock_model("step_ms=5")) as node:
        before = node.incarnations()
        records = [StreamRecord() for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for number, record in enumerate(records):
                nursery.start_soon(read_stubbornly, node.url, {"prompt": f"p {number}", "max_tokens": 60}, record)
            await wait_until(lambda: all(record.last_seq > 5 for record in records))
            node.crash(GATEWAY)

        assert [record.text for record in records] == [oracle(f"p {number}", 60) for number in range(5)]
        assert {record.end_event for record in records} == {"done"}
        after = node.incarnations()
        assert after.pop(GATEWAY) == before.pop(GATEWAY) + 1
        assert after == before


async def test_gateway_crash_ends_a_stream_without_a_terminal_chunk() -> None:
    async with local_node(mock_model("step_ms=5")) as node:
        record = StreamRecord()
        with pytest.raises(CUTS):
            await read_and_crash(node, record)
        assert record.end is None


async def read_and_crash(node: LocalNode, record: StreamRecord) -> None:
    events = follow(node.url, {"prompt": "p", "max_tokens": 8000}, record)
    try:
        while True:
            await anext(events)
            if record.last_seq == 3:
                node.crash(GATEWAY)
    finally:
        await events.aclose()


async def test_gateway_crash_cuts_a_json_request_without_an_answer() -> None:
    async with local_node(mock_model("step_ms=5")) as node:
        body = {"prompt": "p", "max_tokens": 8000}
        async with await RawExchange.open(node.url, "POST", "/v1/generate", body=body, read_head=False) as exchange:
            await wait_until(lambda: "1 running" in repr(node.node.ledger))
            node.crash(GATEWAY)
            with pytest.raises((*CUTS, AssertionError)):
                await exchange.read_head()
            assert exchange.status == 0


async def test_new_connections_wait_for_the_gateway_restart() -> None:
    async with local_node() as node:
        statuses: list[int] = []

        async def newcomer(delay_s: float) -> None:
            await trio.sleep(delay_s)
            async with await RawExchange.open(node.url, "GET", "/livez") as exchange:
                statuses.append(exchange.status)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                ref = node.node.tree.actor(GATEWAY).spec.ref
                node.crash(GATEWAY)
                # The next incarnation may run before a look finds the crashed one gone.
                await wait_until(lambda: not ref.running or ref.incarnation > 1)
                for number in range(20):
                    nursery.start_soon(newcomer, number * 0.005)
        assert statuses == [200] * 20


async def test_metrics_are_right_after_a_gateway_crash() -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.1) as node:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                body = {"prompt": f"p {number}", "max_tokens": 8000, "stream": number > 0}
                nursery.start_soon(ignore_cut, node.url, body)
            await wait_until(lambda: "3 running" in repr(node.node.ledger))
            await trio.sleep(0.05)
            node.crash(GATEWAY)
        async with httpx.AsyncClient(base_url=node.url) as client:
            assert "llm_gateway_inflight_requests 0.0" in (await client.get("/metrics")).text
        await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))


async def ignore_cut(url: str, body: dict[str, Any]) -> None:
    try:
        async with await RawExchange.open(url, "POST", "/v1/generate", body=body, read_head=False) as exchange:
            while await exchange._next() != h11.ConnectionClosed():
                pass
    except CUTS:
        pass


async def test_stream_is_whole_after_three_gateway_crashes() -> None:
    async with local_node(mock_model("step_ms=10")) as node:
        record = StreamRecord()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_stubbornly, node.url, {"prompt": "again", "max_tokens": 80}, record)
            for at in (5, 25, 45):
                await wait_until(lambda at=at: record.last_seq >= at)  # type: ignore[misc]
                incarnation = node.incarnations()[GATEWAY]
                node.crash(GATEWAY)
                await node.wait_running(GATEWAY, incarnation + 1)

        assert record.text == oracle("again", 80)
        assert record.text == oracle("again", 80)
