"""The limits of tenants, on every route."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import httpx
import openai
import pytest
import trio
import trio_websocket

from llmactors.backends.build import ServedModel
from llmactors.config import DeclaredPrice
from llmactors.limiter import Limits
from llmactors.limiter.limits import Budget
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.integration.gateway.conftest import Tenants

pytestmark = pytest.mark.integration

NATIVE = {"prompt": "8 bytes.", "max_tokens": 8}
"""A request that reserves 10 tokens."""
CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "8 bytes."}], "max_tokens": 8}
TENANTS = {
    "minute": Limits(requests_per_minute=2),
    "tokens": Limits(tokens_per_minute=25),
    "day": Limits(tokens_per_day=25),
    "few": Limits(concurrent=2),
    "spender": Limits(budgets=(Budget(1_000_000, "day"),)),
    "all": Limits(requests_per_minute=60, tokens_per_minute=1000, tokens_per_day=5000, concurrent=4),
}


@attrs.frozen(eq=False)
class TenantNode(LocalNode):
    """A node, and the tenants with their keys."""

    tenants: Tenants

    def headers(self, tenant: str) -> dict[str, str]:
        return self.tenants.headers(tenant)

    async def post(self, tenant: str, body: dict[str, Any], path: str = "/v1/generate", **more: str) -> Any:
        return await self.client.post(path, json=body, headers=self.headers(tenant) | more)

    async def chat(self, tenant: str, **fields: Any) -> Any:
        return await self.post(tenant, CHAT | fields, "/v1/chat/completions")

    @contextlib.asynccontextmanager
    async def streaming(self, tenant: str, path: str = "/v1/generate", **fields: Any) -> AsyncIterator[Any]:
        body = (NATIVE if path == "/v1/generate" else CHAT) | {"max_tokens": 1000, "stream": True} | fields
        async with self.client.stream("POST", path, json=body, headers=self.headers(tenant)) as response:
            yield response


Serve = Callable[..., AbstractAsyncContextManager[TenantNode]]


@pytest.fixture
def serve(tenants: Tenants) -> Serve:
    """Returns a function that runs a node like `local_node`, with the keys of the tenants."""
    tenants.add("nobody")
    for name, limits in TENANTS.items():
        tenants.add(name, limits=limits)

    @contextlib.asynccontextmanager
    async def run(*models: ServedModel, **settings: Any) -> AsyncIterator[TenantNode]:
        async with local_node(*models, keys=str(tenants.path), **settings) as node:
            yield TenantNode(node.node, node.client, tenants)

    return run


def left(response: httpx.Response) -> dict[str, int]:
    """The remaining amount in the `RateLimit` header."""
    items = [item.split(";") for item in response.headers["ratelimit"].split(", ")]
    return {name.strip('"'): int(rest[0].removeprefix("r=")) for name, *rest in items}


async def test_every_answer_has_remaining_limits(serve: Serve) -> None:
    async with serve() as node:
        text = {"model": "mock", "prompt": "8 bytes.", "max_tokens": 8}
        routes = {"/v1/generate": NATIVE, "/v1/chat/completions": CHAT, "/v1/completions": text}
        answers = [await node.post("all", body, path) for path, body in routes.items()]
        for answer in answers:
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "60"
            assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
            assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
            assert '"tokens-per-day";q=5000;w=86400' in answer.headers["ratelimit-policy"]
            assert left(answer)["concurrent"] == 3
        assert [left(answer)["requests"] for answer in answers] == [59, 58, 57]
        assert "ratelimit" not in (await node.post("nobody", NATIVE)).headers


@pytest.mark.parametrize(
    ("tenant", "kind", "code", "limit", "again"),
    [
        ("minute", "requests", "rate_limit_exceeded", "requests per minute: limit 2, remaining 0, requested 1", "true"),
        ("tokens", "tokens", "rate_limit_exceeded", "tokens per minute: limit 25, remaining 5, requested 10", "true"),
        ("day", "insufficient_quota", "insufficient_quota", "tokens per day: limit 25, remaining 5", "false"),
        ("few", "requests", "rate_limit_exceeded", "concurrent requests: limit 2, remaining 0", "true"),
    ],
)
async def test_refusal_names_its_limit_on_each_route(
    serve: Serve, tenant: str, kind: str, code: str, limit: str, again: str
) -> None:
    async with serve(mock_model("step_ms=200")) as node:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(node.post, tenant, NATIVE)
            await wait_until(lambda: "2 running" in repr(node.node.ledger))
            native, openais = await node.post(tenant, NATIVE), await node.chat(tenant)
            nursery.cancel_scope.cancel(reason="all is seen")
        assert native.status_code == openais.status_code == 429
        assert native.json()["error"]["code"] == "RATE_LIMITED"
        assert limit in native.json()["error"]["message"]
        error = openais.json()["error"]
        assert (error["type"], error["code"]) == (kind, code)
        assert limit in error["message"]
        for answer in (native, openais):
            assert int(answer.headers["retry-after"]) >= 1
            assert int(answer.headers["retry-after-ms"]) > 0
            assert answer.headers["x-should-retry"] == again
            assert "ratelimit" in answer.headers
        name = {"minute": "requests", "tokens": "tokens", "day": "tokens-per-day", "few": "concurrent"}[tenant]
        metrics = (await node.client.get("/metrics")).text
        assert f'llmactors_limited_total{{limit="{name}"}} 2.0' in metrics


async def test_request_that_can_never_be_admitted_is_told_so(serve: Serve) -> None:
    async with serve() as node:
        for answer in (await node.post("tokens", NATIVE | {"max_tokens": 24}), await node.chat("few", n=3)):
            assert answer.status_code == 429
            assert "can never be admitted" in answer.json()["error"]["message"]
            assert answer.headers["x-should-retry"] == "false"
            assert "retry-after" not in answer.headers


async def test_unused_tokens_are_returned_at_the_end(serve: Serve) -> None:
    async with serve(mock_model("step_ms=20"), resume_grace_s=0.05) as node:
        async with node.streaming("all", max_tokens=900) as response:
            assert left(response)["tokens"] <= 100
        await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))
        assert left(await node.post("all", NATIVE))["tokens"] > 900


async def test_choices_are_charged_each_and_admitted_all_or_none(serve: Serve) -> None:
    async with serve(mock_model("step_ms=20")) as node:
        assert left(await node.chat("all", n=3))["requests"] == 57
        async with node.streaming("few"):
            await wait_until(lambda: "1 running" in repr(node.node.ledger))
            answer = await node.chat("few", n=2)
            assert (answer.status_code, left(answer)) == (429, {"concurrent": 1})
            statistics = await node.node.ledger.statistics()
            assert (statistics.queued, statistics.running, statistics.accepted_total) == (0, 1, 4)
            assert (await node.chat("few", n=1)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/chat/completions"])
@pytest.mark.parametrize("how", ["gone", "cancelled", "crashed"])
async def test_any_end_of_a_stream_frees_its_permit(serve: Serve, path: str, how: str) -> None:
    async with serve(mock_model("step_ms=20"), resume_grace_s=0.1) as node:
        async with contextlib.AsyncExitStack() as streams:
            first, _ = [await streams.enter_async_context(node.streaming("few", path)) for _ in range(2)]
            assert (await node.post("few", NATIVE)).status_code == 429
            if how == "cancelled":
                name, headers = first.headers["x-request-id"], node.headers("few")
                assert (await node.client.delete(f"/v1/streams/{name}", headers=headers)).status_code == 200
                assert (await node.post("few", NATIVE)).status_code == 200
            elif how == "crashed":
                incarnation = node.incarnations()["node/http/gateway"]
                node.crash("node/http/gateway")
                await node.wait_running("node/http/gateway", incarnation + 1)
        await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))
        assert left(await node.post("few", NATIVE)) == {"concurrent": 1}


async def test_same_idempotency_key_is_charged_once(serve: Serve) -> None:
    async with serve() as node:
        for _ in range(4):
            assert (await node.post("minute", NATIVE, **{"idempotency-key": "k"})).status_code == 200
        assert left(await node.post("minute", NATIVE))["requests"] == 0


async def test_request_refused_for_another_reason_is_not_charged(serve: Serve) -> None:
    async with serve() as node:
        for wrong in ({"model": "none"}, {"max_tokens": 10**9}, {"prompt": ""}, {"temperature": 9}):
            assert (await node.post("minute", NATIVE | wrong)).status_code in {400, 404}
        assert left(await node.post("minute", NATIVE))["requests"] == 1


async def test_websocket_requests_are_charged_too(serve: Serve) -> None:
    async with serve(mock_model("step_ms=20")) as node:
        url, headers = (
            f"ws://127.0.0.1:{node.port}/v1/ws",
            [(b"authorization", node.headers("few")["Authorization"].encode())],
        )
        async with trio_websocket.open_websocket_url(url, extra_headers=headers) as socket:

            async def say(**message: Any) -> None:
                await socket.send_message(json.dumps(message))

            async def hear(event: str) -> dict[str, Any]:
                with trio.fail_after(10):
                    while (message := json.loads(await socket.get_message()))["event"] != event:
                        pass
                found: dict[str, Any] = message
                return found

            await say(op="generate", prompt="p", max_tokens=1000)
            await hear("accepted")
            await say(op="generate", prompt="p", max_tokens=1000)
            accepted = await hear("accepted")
            await say(op="generate", prompt="p", ref=7)
            refused = await hear("error")
            assert refused["ref"] == 7
            assert (refused["error"]["code"], refused["error"]["limit"]) == ("RATE_LIMITED", "concurrent")
            assert refused["error"]["retry_after_ms"] == 1000
            await say(op="cancel", id=accepted["id"])
            await hear("cancelled")
            await say(op="generate", prompt="p", max_tokens=2)
            await hear("accepted")


async def test_openai_client_does_not_retry_a_spent_budget(serve: Serve) -> None:
    async with serve() as node:
        client = openai.AsyncOpenAI(
            base_url=f"{node.url}/v1", api_key=node.headers("day")["Authorization"][7:], max_retries=5
        )
        async with client:
            await client.chat.completions.create(**CHAT)
            with trio.fail_after(5), pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(**CHAT | {"max_tokens": 20})
        assert caught.value.code == "insufficient_quota"


async def test_refusal_by_a_budget_tells_which_and_until_when(serve: Serve) -> None:
    prices = {"mock": DeclaredPrice(prompt=1.0, completion=100.0)}
    async with serve(prices=prices) as node:
        # A request may cost 0.000802, and the mock's answer to 8 tokens costs as much.
        assert (await node.post("spender", NATIVE)).status_code == 200
        native, openais = await node.post("spender", NATIVE), await node.chat("spender")
        for answer in (native, openais):
            assert answer.status_code == 429
            message = answer.json()["error"]["message"]
            assert "budget reached: the tenant's budget for a day is 0.001, of which 0.000" in message
            assert "the budget begins anew at midnight UTC, in " in message
            assert answer.headers["x-should-retry"] == "false"
            assert 0 < int(answer.headers["retry-after"]) <= 86_400
        assert native.json()["error"]["code"] == "RATE_LIMITED"
        assert openais.json()["error"]["code"] == "insufficient_quota"
        assert 'llmactors_limited_total{limit="budget-per-day"} 2.0' in (await node.client.get("/metrics")).text
        [record] = (await node.node.ledger.usage_records(0, 2**50)).records
        assert (record.tenant, record.completion_tokens) == ("spender", 8)
        assert record.cost_nano == record.prompt_tokens * 1000 + 8 * 100_000
        assert record.key_id == node.tenants.ids["spender"]


async def test_changed_limits_count_at_once(serve: Serve) -> None:
    async with serve() as node:
        for _ in range(2):
            assert (await node.post("minute", NATIVE)).status_code == 200
        assert (await node.post("minute", NATIVE)).status_code == 429
        node.tenants.limit("minute", Limits(requests_per_minute=3))
        assert left(await node.post("minute", NATIVE))["requests"] == 0
        node.tenants.limit("minute", Limits())
        assert "ratelimit" not in (await node.post("minute", NATIVE)).headers
