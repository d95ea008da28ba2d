"""The routes for operators and their tools: health, metrics and the actor tree."""

import json

import attrs
import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from llmactors.backends.directory import ModelState, ModelStatus
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.raw_http import RawExchange
from tests.support.streams import read_stream, read_until

pytestmark = pytest.mark.integration


async def test_idle_node_is_live_ready_and_healthy() -> None:
    async with local_node() as node:
        assert (await node.client.get("/livez")).json() == {"status": "ok"}
        ready = await node.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "problems": {}})
        healthy = await node.client.get("/healthz")
        assert healthy.status_code == 200
        assert healthy.json()["status"] == "healthy"
        components = healthy.json()["components"]
        assert components["gateway"] == {"state": "ready"}
        assert components["models"]["mock"]["state"] == "ready"
        assert components["models"]["mock"]["capabilities"]["slots"] == 64
        assert components["ledger"]["workers"] == 1
        for response in (ready, healthy):
            assert response.headers["content-type"] == "application/json"
            assert response.headers["x-request-id"].startswith("req_")


async def test_hung_backend_makes_node_unready_but_live() -> None:
    async with local_node(mock_model("hang_at=2"), stalled_s=0.1, hung_s=60, resume_grace_s=0.1) as node:
        await read_until(node.url, {"prompt": "p", "max_tokens": 5}, 1)
        await wait_until(lambda: "stalled" in repr(node.node.directory))
        ready = await node.client.get("/readyz")

        assert ready.status_code == 503
        assert int(ready.headers["retry-after"]) >= 1
        assert "stalled" in ready.json()["problems"]["model:mock"]
        healthy = await node.client.get("/healthz")
        assert (healthy.status_code, healthy.json()["status"]) == (503, "unhealthy")
        assert (await node.client.get("/livez")).status_code == 200


async def test_readyz_says_why_a_backend_is_down() -> None:
    async with local_node() as node:
        node.node.directory.put("mock", ModelStatus(ModelState.DOWN, None, "crashed: out of luck"))
        ready = await node.client.get("/readyz")
        assert (ready.status_code, ready.json()["problems"]) == (503, {"model:mock": "down crashed: out of luck"})


async def test_readyz_answers_for_one_model() -> None:
    async with local_node(mock_model(), mock_model(name="other")) as node:
        node.node.directory.put("mock", ModelStatus(ModelState.STALLED, None, "(no upstream gets requests: u: 500)"))
        answers = {name: await node.client.get("/readyz", params={"model": name}) for name in ("mock", "other", "no")}
        assert {name: answer.status_code for name, answer in answers.items()} == {"mock": 503, "other": 200, "no": 404}
        stalled = {"model:mock": "stalled (no upstream gets requests: u: 500)"}
        assert answers["mock"].json()["problems"] == stalled
        assert (await node.client.get("/health")).json()["problems"] == stalled


ORIGINS = {
    "llm_gateway_request_count_total",
    "llm_gateway_inflight_requests",
    "llm_gateway_batch_size_count",
    "llm_gateway_request_latency_seconds_bucket",
    "llm_gateway_request_latency_p50_seconds",
    "llm_gateway_request_latency_p95_seconds",
    "llm_gateway_request_latency_p99_seconds",
    "llm_gateway_tokens_generated_total",
    "llm_gateway_errors_total",
    "llm_worker_batch_size_count",
    "llm_worker_tokens_generated_total",
    "llm_worker_errors_total",
}
"""Dashboards depend on these exact names."""


async def samples(node: LocalNode) -> dict[str, float]:
    """The value of every sample, by its name and the values of its labels."""
    response = await node.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def settled(node: LocalNode) -> dict[str, float]:
    """Waits until no request is in flight, and returns the samples."""
    with trio.fail_after(5):
        while True:
            found = await samples(node)
            if not found["llm_gateway_inflight_requests"]:
                return found
            await trio.sleep(0.01)


async def test_metrics_have_the_documented_names_and_counts() -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.1) as node:
        for number in range(5):
            await node.client.post("/v1/generate", json={"prompt": f"p {number}", "max_tokens": 10})
        whole = await read_stream(node.url, {"prompt": "stream", "max_tokens": 7})
        await read_stream(node.url, {"prompt": "stream", "max_tokens": 7})
        again = await node.client.get(f"/v1/streams/{whole.id}", params={"after": 4})
        assert again.text.count("event: token") == 3
        assert (await node.client.get(f"/v1/streams/{whole.id}", params={"after": 8})).status_code == 204
        for body in ({}, {"prompt": ""}, {"prompt": "p", "model": "none"}):
            await node.client.post("/v1/generate", json=body)
        late = {"prompt": "late", "max_tokens": 8000, "deadline_ms": 50}
        assert (await node.client.post("/v1/generate", json=late)).status_code == 504
        await read_stream(node.url, late)
        async with await RawExchange.open(
            node.url, "POST", "/v1/generate", body={"prompt": "p", "max_tokens": 8000}, read_head=False
        ):
            await wait_until(lambda: "1 running" in repr(node.node.ledger))
        await wait_until(lambda: "0 running" in repr(node.node.ledger))

        found = await settled(node)
        names = {name.split()[0] for name in found}
        assert names >= ORIGINS
        assert found["llm_gateway_request_count_total 200"] == 5 + 2 + 1 + 1
        assert found["llm_gateway_request_count_total 204"] == 1
        assert found["llm_gateway_request_count_total 400"] == 2
        assert found["llm_gateway_request_count_total 404"] == 1
        assert found["llm_gateway_request_count_total 499"] == 1
        assert found["llm_gateway_request_count_total 504"] == 1
        assert found["llm_gateway_errors_total INVALID_REQUEST"] == 2
        assert found["llm_gateway_errors_total NOT_FOUND"] == 1
        assert found["llm_gateway_errors_total DEADLINE_EXCEEDED"] == 2
        # The stream of the overdue request sent some tokens too, and their number depends on the time.
        assert found["llm_gateway_tokens_generated_total"] >= 5 * 10 + 2 * 7 + 3
        assert found["llm_worker_tokens_generated_total"] >= 5 * 10 + 2 * 7
        assert found["llm_gateway_request_latency_seconds_count"] == 15
        # The streams and the overdue stream count; a client that returns for the rest has no first token.
        assert found["llmactors_ttft_seconds_count mock"] == 3
        assert found["llmactors_request_seconds_count mock"] == 5 + 2 + 2 + 1
        assert found["llmactors_inter_token_seconds_count mock"] >= 2  # a write may have several tokens
        assert found["llmactors_completion_tokens_total mock"] == found["llm_worker_tokens_generated_total"]
        assert found["llmactors_prompt_tokens_total mock"] > 0
        assert found["llmactors_batch_wait_seconds_count 1 mock"] == found["llm_gateway_batch_size_sum"]
        assert found["llmactors_model_state mock ready"] == 1
        assert (found["llmactors_slots_busy mock"], found["llmactors_queue_requests 1 mock"]) == (0, 0)
        assert found["llmactors_ledger_requests running"] == 0
        assert found["llmactors_ready"] == 1
        # Deadlines are whole milliseconds of the wall clock, so a request can end a little before 50 ms.
        assert 0.04 <= found["llm_gateway_request_latency_p50_seconds"] <= 5
        p50, p95, p99 = (found[f"llm_gateway_request_latency_{name}_seconds"] for name in ("p50", "p95", "p99"))
        assert p50 <= p95 <= p99


async def test_requests_are_counted_by_their_route() -> None:
    async with local_node() as node:
        for path in ("/v1/models", "/v1/models/a", "/v1/models/b", "/v1/odd-path", "/odd", "/livez"):
            await node.client.get(path)
        found = await samples(node)
        assert found["llmactors_http_requests_total /v1/models"] == 1
        assert found["llmactors_http_requests_total /v1/models/{model:path}"] == 2
        assert found["llmactors_http_requests_total none"] == 2
        assert found["llmactors_http_requests_total /livez"] == 1
        assert not any("odd" in name for name in found)


async def test_token_metric_counts_every_token() -> None:
    async with local_node() as node:
        for count in range(1, 21):
            await read_stream(node.url, {"prompt": f"p {count}", "max_tokens": count})

        assert (await samples(node))["llm_gateway_tokens_generated_total"] == sum(range(1, 21))


async def test_abandoned_stream_counts_with_its_answered_status() -> None:
    async with local_node(mock_model("step_ms=2"), resume_grace_s=0.05) as node:
        await read_until(node.url, {"prompt": "p", "max_tokens": 8000}, 2)
        found = await settled(node)
        assert found["llm_gateway_request_count_total 200"] == 1


async def test_no_metric_label_has_text_from_a_client() -> None:
    async with local_node() as node:
        odd = "odd-text-from-a-client"
        await node.client.post(f"/v1/{odd}", json={"prompt": odd}, headers={"x-request-id": odd})
        await node.client.post("/v1/generate", json={"prompt": odd, odd: odd, "model": odd})
        await node.client.get(f"/v1/streams/{odd}")
        await node.client.request(odd.upper(), "/v1/generate")
        assert odd not in (await node.client.get("/metrics")).text.lower()


async def test_tree_route_returns_actor_statistics() -> None:
    async with local_node() as node:
        response = await node.client.get("/v1/tree")
        expected = json.loads(msgspec.json.encode(node.node.tree.statistics()))

        assert response.status_code == 200
        assert shape(response.json()) == shape(expected)
        assert response.json()["name"] == "node"
        assert attrs.has(type(node.node.tree.statistics()))


def shape(tree: object) -> object:
    """The structure of the tree without its numbers, which change all the time."""
    if isinstance(tree, dict):
        return {key: shape(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [shape(child) for child in tree]
    return None if isinstance(tree, int | float) else tree


async def test_every_route_echoes_or_makes_a_request_id() -> None:
    async with local_node() as node:
        seen = set()
        for path in ("/livez", "/readyz", "/healthz", "/metrics", "/v1/tree", "/v1/streams/x", "/v1/none", "/v1/ws"):
            response = await node.client.get(path, headers={"x-request-id": "m" * 300})
            assert response.headers["x-client-request-id"] == "m" * 128
            seen.add(response.headers["x-request-id"])
        assert len(seen) == 8
