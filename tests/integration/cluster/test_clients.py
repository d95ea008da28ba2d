"""Over a cluster a disconnect frees the slot, and one idempotency key is one request at all gateways."""

import json
import re
import signal
from typing import Any

import attrs
import httpx
import msgspec
import pytest
import redis
import trio

from llmactors.backends.mock.oracle import mock_text
from llmactors.http.sse_reader import SseReader
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.node import wait_until
from tests.conftest import Figures
from tests.integration.cluster.conftest import Cluster
from tests.support.leaving import CHAT_JSON, CHAT_STREAM, JSON, SOCKET, STREAM, Route, Way
from tests.support.raw_http import RawExchange

pytestmark = pytest.mark.integration

STEP_MS = 20
MOST_STEPS = 5
"""The number of tokens that may be made after the end is written: those of 100 ms."""
GRACE_S = 0.2
LONG = 4000
NAMES = RedisNames("main")


@attrs.frozen
class Observer:
    """Reads Redis directly, past all of the code under test."""

    client: "redis.Redis"

    def count(self, name: str) -> int:
        return int(self.client.hget(NAMES.ledger(LedgerKey.COUNTERS), name) or 0)

    def field(self, request_id: str, name: str) -> Any:
        return self.client.hget(NAMES.ledger(LedgerKey.REQUEST, request_id), name)

    def logged(self, request_id: str) -> int:
        """The last seq in the log of a request."""
        last: list[Any] = self.client.xrevrange(NAMES.ledger(LedgerKey.LOG, request_id), count=1)  # type: ignore[assignment]
        return int(last[0][0].partition(b"-")[0]) if last else 0

    def ids(self, prompt: str) -> list[str]:
        """The ids of the requests with this prompt."""
        decode = msgspec.msgpack.Decoder(GenerateRequest).decode
        stored: list[Any] = [self.client.get(key) for key in self.client.scan_iter(NAMES.ledger(LedgerKey.BODY, "*"))]
        requests = [decode(body) for body in stored if body is not None]
        return [each.id for each in requests if each.text in {prompt, f"user: {prompt}"}]


def tokens_made(metrics: str) -> int:
    text = httpx.get(f"{metrics}/metrics").text
    match = re.search(r"^llm_worker_tokens_generated_total ([0-9.]+)$", text, re.MULTILINE)
    return int(float(match[1])) if match else 0


CELLS = [
    *((route, way) for route in (STREAM, JSON, SOCKET, CHAT_STREAM, CHAT_JSON) for way in (Way.RST, Way.CANCEL)),
    *((route, Way.FIN) for route in (STREAM, CHAT_JSON)),
]


async def test_disconnect_ends_request_and_frees_slot_over_redis(cluster: Cluster, figures: Figures) -> None:
    url = cluster.gateway("g1", "--resume-grace-s", str(GRACE_S)).wait_ready()
    metrics = cluster.worker("w1", model=f"mock=mock:slots=1,step_ms={STEP_MS}").wait_ready()
    await wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, within_s=20)
    async with httpx.AsyncClient(base_url=url, timeout=20) as http:
        with cluster.server.client() as client:
            for cell in CELLS:
                await _go(Observer(client), http, metrics, *cell, figures)


async def _go(seen: Observer, http: httpx.AsyncClient, metrics: str, route: Route, way: Way, figures: Figures) -> None:
    url, prompt, made = str(http.base_url), f"{route.name} {way.value}", tokens_made(metrics)
    async with route.open(url, prompt, LONG) as client:
        await wait_until(lambda: bool(seen.ids(prompt)), within_s=20)
        [request_id] = seen.ids(prompt)
        await wait_until(lambda: seen.logged(request_id) >= 2, within_s=20)
        async with STREAM.open(url, f"waits for {prompt}", LONG) as waiting:
            await wait_until(lambda: bool(seen.ids(f"waits for {prompt}")), within_s=20)
            [next_id] = seen.ids(f"waits for {prompt}")
            due = trio.current_time() + (GRACE_S if route.survives and way is not Way.CANCEL else 0.0)
            await client.leave(way, request_id)
            await wait_until(lambda: seen.field(request_id, "st") == b"e", within_s=20)
            ended = trio.current_time()
            assert ended >= due, prompt
            figures("cancelled over a cluster after (ms)", prompt, round((ended - due) * 1000))
            # The second request waited for the only slot.
            await waiting.read_token()
            await waiting.leave(Way.CANCEL, next_id)
        charged = [await charge(http, each) for each in (request_id, next_id)]
    answer = await http.post("/v1/generate", json={"prompt": "the slot is free", "max_tokens": 1})
    assert answer.status_code == 200
    assert 0 <= tokens_made(metrics) - made - sum(charged) - 1 <= 2 * MOST_STEPS, prompt
    assert (seen.count("queued"), seen.count("running")) == (0, 0), prompt


async def charge(http: httpx.AsyncClient, request_id: str) -> int:
    """The number of tokens in the usage of a request, which must be the number of tokens in its log."""
    *tokens, last = SseReader().feed((await http.get(f"/v1/streams/{request_id}")).content)
    end = json.loads(last.data)
    assert end["finish_reason"] == "cancelled"
    assert {event.name for event in tokens} <= {"token"}
    assert end["usage"]["completion_tokens"] == len(tokens) == end["seq"] - 1
    return int(end["usage"]["completion_tokens"])


NATIVE: dict[str, Any] = {"prompt": "once", "max_tokens": 40}
CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "once"}], "max_tokens": 40}
ASKS = [
    ("/v1/generate", NATIVE),
    ("/v1/generate", {**NATIVE, "stream": True}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
]


def text_of(body: dict[str, Any]) -> str:
    messages = tuple(ChatMessage(each["role"], each["content"]) for each in body.get("messages", ()))
    return mock_text(GenerateRequest("", "mock", body.get("prompt", ""), messages=messages, max_tokens=40))


def read(path: str, body: dict[str, Any], answer: httpx.Response) -> str:
    """The text of a whole answer in any form."""
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        found = answer.json()
        return str(found["text"] if path == "/v1/generate" else found["choices"][0]["message"]["content"])
    events = [event.data for event in SseReader().feed(answer.content) if event.data != b"[DONE]"]
    if path == "/v1/generate":
        return "".join(json.loads(each).get("text", "") for each in events)
    return "".join(json.loads(each)["choices"][0]["delta"].get("content", "") for each in events)


async def test_idempotency_key_is_one_request_over_all_gateways(cluster: Cluster) -> None:
    first, second = cluster.gateway("g1"), cluster.gateway("g2")
    one, other = first.wait_ready(), second.wait_ready()
    cluster.worker("w1", model=f"mock=mock:slots=64,step_ms={STEP_MS}").wait_ready()
    for url in (one, other):
        await wait_until(lambda url=url: httpx.get(f"{url}/readyz").status_code == 200, within_s=20)  # type: ignore[misc]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=30, limits=limits) as http:
        with cluster.server.client() as client:
            seen = Observer(client)
            await _race(http, one, other, seen)
            pages = [(await http.get(f"{url}/metrics")).text for url in (one, other)]
            shown = [page.count("llmactors_ledger_workers 1.0") for page in pages]
            assert shown == [1, 0]  # a figure that two gateways show would count twice in a sum
            answer = await http.post(
                f"{other}/v1/generate", json={**NATIVE, "max_tokens": 7}, headers={"Idempotency-Key": "race 0"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")

            accepted, exchanges = seen.count("accepted_total"), []
            for path, body in ASKS:
                key = {"Idempotency-Key": f"{path} {bool(body.get('stream'))}"}
                exchanges.append(await RawExchange.open(one, "POST", path, body=body, headers=key, read_head=False))
            await wait_until(lambda: seen.count("accepted_total") == accepted + len(ASKS), within_s=20)
            first.process.send_signal(signal.SIGKILL)
            answers: dict[int, str] = {}

            async def ask_again(number: int) -> None:
                path, body = ASKS[number]
                key = {"Idempotency-Key": f"{path} {bool(body.get('stream'))}"}
                answers[number] = read(path, body, await http.post(f"{other}{path}", json=body, headers=key))

            async with trio.open_nursery() as nursery:
                for number in range(len(ASKS)):
                    nursery.start_soon(ask_again, number)
            for exchange in exchanges:
                await exchange.stream.aclose()
            assert answers == {number: text_of(body) for number, (_, body) in enumerate(ASKS)}
            assert seen.count("accepted_total") == accepted + len(ASKS)


async def _race(http: httpx.AsyncClient, one: str, other: str, seen: Observer) -> None:
    """Many requests with few keys at once, at both gateways and in both forms."""
    texts: list[str] = []

    async def ask(url: str, body: dict[str, Any], key: str) -> None:
        answer = await http.post(f"{url}/v1/generate", json=body, headers={"Idempotency-Key": key})
        texts.append(read("/v1/generate", body, answer))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            for url in (one, other, other, one, other, other):
                for body in (NATIVE, {**NATIVE, "stream": True}):
                    nursery.start_soon(ask, url, body, f"race {number}")
    assert texts == [text_of(NATIVE)] * 72
    assert seen.count("accepted_total") == 6
