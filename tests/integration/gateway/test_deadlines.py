"""Deadlines hold on every route: an overdue request does no work, and a hopeless one is refused at once."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from llmactors.messages import Failed, Usage
from llmactors.testing.node import LocalNode, local_node, wait_until
from tests.integration.gateway.test_cancellation import LONG, MOST_STEPS, STEP_MS, id_of, newest
from tests.integration.gateway.test_websocket import connect
from tests.support.leaving import STREAM
from tests.support.watched_mock import Watch, watched_model

pytestmark = pytest.mark.integration

PROMPT = "in a hurry"


@attrs.frozen
class Answer:
    """The status and code of an error. `status` is 0 for an error event in a stream."""

    status: int
    code: str
    retry_after_s: float | None = None


@attrs.frozen
class Asker:
    """One route on which a request can have a deadline."""

    name: str
    path: str = ""
    """The path of the route; empty for a WebSocket."""
    stream: bool = False
    by_header: bool = False

    def __str__(self) -> str:
        return self.name

    async def ask(self, node: LocalNode, within_ms: int) -> Answer:
        if not self.path:
            async with connect(node) as client:
                message = await client.ask(op="generate", prompt=PROMPT, max_tokens=LONG, deadline_ms=within_ms)
                accepted = message["event"] == "accepted"
                while message["event"] in {"accepted", "queued", "token"}:
                    message = await client.hear()
            error = message["error"]
            retry_ms = error.get("retry_after_ms")
            return Answer(0 if accepted else 400, error["code"], None if retry_ms is None else retry_ms / 1000)
        body: dict[str, Any] = {"max_tokens": LONG, "stream": self.stream}
        headers: dict[str, str] = {}
        if self.path == "/v1/generate":
            body["prompt"] = PROMPT
        else:
            body |= {"model": "mock", "messages": [{"role": "user", "content": PROMPT}]}
        if self.by_header:
            headers["X-Request-Deadline"] = str(round(time.time() * 1000) + within_ms)
        else:
            body["deadline_ms"] = within_ms
        response = await node.client.post(self.path, json=body, headers=headers)
        if response.headers["content-type"] == "application/json":
            retry = response.headers.get("retry-after-ms")
            retry_s = None if retry is None else int(retry) / 1000
            assert (retry is None) == ("retry-after" not in response.headers)
            return Answer(response.status_code, response.json()["error"]["code"].upper(), retry_s)
        assert "[DONE]" not in response.text
        assert '"DEADLINE_EXCEEDED"' in response.text or '"deadline_exceeded"' in response.text
        return Answer(0, "DEADLINE_EXCEEDED")


ASKERS = [
    Asker("JSON", "/v1/generate"),
    Asker("JSON by header", "/v1/generate", by_header=True),
    Asker("stream", "/v1/generate", stream=True),
    Asker("stream by header", "/v1/generate", stream=True, by_header=True),
    Asker("WebSocket"),
    Asker("chat JSON", "/v1/chat/completions", by_header=True),
    Asker("chat stream", "/v1/chat/completions", stream=True, by_header=True),
]
each_route = pytest.mark.parametrize("asker", ASKERS, ids=str)


@contextlib.asynccontextmanager
async def node_of(options: str) -> AsyncIterator[tuple[LocalNode, Watch]]:
    model, watch = watched_model(options)
    async with local_node(model) as node:
        yield node, watch


async def post(node: LocalNode, body: dict[str, Any]) -> None:
    await node.client.post("/v1/generate", json=body)


def late(asker: Asker, *, begun: bool) -> Answer:
    """The error of an overdue request. OpenAI streams begin with their first token: earlier errors have a status."""
    streams = not asker.path or (asker.stream and (begun or asker.path == "/v1/generate"))
    return Answer(0 if streams else 504, "DEADLINE_EXCEEDED")


@each_route
async def test_overdue_queued_request_never_reaches_the_backend(asker: Asker) -> None:
    async with node_of(f"slots=1,step_ms={STEP_MS}") as (node, watch), STREAM.open(node.url, "holder", LONG):
        holder = await id_of(node, "holder")
        await wait_until(lambda: holder in watch.holding)
        assert await asker.ask(node, 100) == late(asker, begun=False)
        assert await node.node.ledger.cancel(holder)
        assert (await node.client.post("/v1/generate", json={"prompt": "next", "max_tokens": 1})).status_code == 200
        assert watch.admitted == [holder, newest(node, "next")[0]]


@each_route
async def test_deadline_ends_a_running_answer_and_frees_its_slot(asker: Asker) -> None:
    async with node_of(f"slots=1,step_ms={STEP_MS}") as (node, watch):
        asked_ms, asked_at = time.time() * 1000, trio.current_time()
        assert await asker.ask(node, 200) == late(asker, begun=True)
        request_id = await id_of(node, PROMPT)
        await wait_until(lambda: not watch.holding)
        log = await node.node.ledger.read(request_id)
        assert isinstance(log.end, Failed)
        assert log.end.usage == Usage(0, len(log.deltas))
        info = await node.node.ledger.info(request_id)
        if asker.by_header:
            assert info.request.deadline_ms is not None
            assert asked_ms + 195 <= info.request.deadline_ms <= time.time() * 1000
        else:
            assert info.request.timeout_ms == 200
        due = node.node.ledger._records[request_id].due
        assert asked_at + 0.195 <= due <= trio.current_time()
        assert watch.made_after(request_id, due) <= MOST_STEPS
        assert 0 <= len(watch.made_at[request_id]) - len(log.deltas) <= MOST_STEPS


@each_route
async def test_request_that_cannot_start_in_time_is_refused_at_once(asker: Asker) -> None:
    async with node_of("slots=1,step_ms=5") as (node, watch), trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(post, node, {"prompt": f"before {number}", "max_tokens": 20})
        # The ledger knows the rate of the queue once a few requests were claimed.
        await wait_until(lambda: len(watch.admitted) >= 4)
        answer = await asker.ask(node, 60)
        assert answer.code == "OVERLOADED", answer
        assert answer.status in {429, 400}
        assert answer.retry_after_s is not None
        assert answer.retry_after_s >= 1.0
        assert newest(node, PROMPT) == []
        nursery.cancel_scope.cancel(reason="all was seen")


async def test_request_behind_a_stuck_queue_is_refused() -> None:
    async with (
        node_of(f"slots=1,step_ms={STEP_MS}") as (node, _),
        STREAM.open(node.url, "holder", LONG),
        STREAM.open(node.url, "waits", LONG),
    ):
        await wait_until(lambda: len(node.node.ledger._records) == 2)
        waited_since = trio.current_time()
        await wait_until(lambda: trio.current_time() - waited_since > 0.3)
        answer = await ASKERS[0].ask(node, 100)
        assert (answer.status, answer.code) == (429, "OVERLOADED")
        assert newest(node, PROMPT) == []
        for record in list(node.node.ledger._records.values()):
            assert await node.node.ledger.cancel(record.request_id)


@pytest.mark.parametrize("asker", [asker for asker in ASKERS if asker.by_header], ids=str)
async def test_past_deadline_is_refused_without_any_work(asker: Asker) -> None:
    async with node_of("") as (node, watch):
        assert await asker.ask(node, -50) == Answer(504, "DEADLINE_EXCEEDED")
        assert watch.admitted == []
        assert (await node.node.ledger.statistics()).accepted_total == 0


@pytest.mark.parametrize(("header_ms", "body_ms"), [(60_000, 120), (120, 60_000)])
async def test_earlier_of_two_deadlines_holds(header_ms: int, body_ms: int) -> None:
    async with node_of(f"step_ms={STEP_MS}") as (node, _):
        headers = {"X-Request-Deadline": str(round(time.time() * 1000) + header_ms)}
        body = {"prompt": PROMPT, "max_tokens": LONG, "deadline_ms": body_ms}
        answer = await node.client.post("/v1/generate", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "9" * 16])
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
async def test_malformed_deadline_header_is_refused_by_name(path: str, value: str) -> None:
    async with node_of("") as (node, watch):
        chat = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}]}
        body = chat if "chat" in path else {"prompt": PROMPT}
        answer = await node.client.post(path, json=body, headers={"X-Request-Deadline": value})
        assert answer.status_code == 400
        assert "`X-Request-Deadline`" in answer.json()["error"]["message"]
        assert watch.admitted == []
