"""The same `Idempotency-Key` with the same body is the same request, whatever became of the first answer."""

from typing import Any

import pytest
import trio

from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = pytest.mark.integration

NATIVE: dict[str, Any] = {"prompt": "once", "max_tokens": 6}
CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "once"}], "max_tokens": 6, "n": 2}
ROUTES = [("/v1/generate", NATIVE), ("/v1/chat/completions", CHAT)]


async def post(node: LocalNode, path: str, body: dict[str, Any], key: str) -> Any:
    return await node.client.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_the_same_again_is_answered_and_not_run_again(path: str, body: dict[str, Any]) -> None:
    async with local_node(mock_model("step_ms=1"), rate_limit="2/h") as node:
        answers = [await post(node, path, body, "k") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert answers[0].json() == answers[1].json() == answers[2].json()
        statistics = await node.node.ledger.statistics()
        assert statistics.accepted_total == body.get("n", 1)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_another_body_is_a_conflict(path: str, body: dict[str, Any]) -> None:
    async with local_node() as node:
        await post(node, path, body, "k")
        answer = await post(node, path, {**body, "max_tokens": 7}, "k")
        assert answer.status_code == 409
        assert answer.json()["error"]["code"].upper() == "CONFLICT"


async def test_a_deadline_that_is_as_long_is_the_same_body() -> None:
    async with local_node(mock_model("step_ms=1")) as node:
        first = await post(node, "/v1/generate", {**NATIVE, "deadline_ms": 5000}, "k")
        await trio.sleep(0.01)
        second = await post(node, "/v1/generate", {**NATIVE, "deadline_ms": 5000}, "k")
        assert first.json() == second.json()


async def test_who_lost_the_connection_gets_the_same_answer() -> None:
    async with local_node(mock_model("step_ms=20")) as node:
        with trio.move_on_after(0.05):
            await post(node, "/v1/generate", {**NATIVE, "max_tokens": 20}, "k")
        await wait_until(lambda: "1 running" in repr(node.node.ledger))
        answer = await post(node, "/v1/generate", {**NATIVE, "max_tokens": 20}, "k")
        assert answer.json()["usage"]["completion_tokens"] == 20
        assert (await node.node.ledger.statistics()).accepted_total == 1


async def test_two_at_once_are_one_request() -> None:
    async with local_node(mock_model("step_ms=2")) as node:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append((await post(node, "/v1/generate", NATIVE, "k")).json())

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert all(answer == answers[0] for answer in answers)
        assert (await node.node.ledger.statistics()).accepted_total == 1


async def test_keys_of_different_tenants_are_different() -> None:
    from llmactors.gateway.request_id import keyed_request_id

    ids = {keyed_request_id(tenant, key) for tenant, key in (("a", "b"), ("b", "a"), ("a:b", ""), ("", "a:b"))}
    assert len(ids) == 4


async def test_a_key_that_is_too_long_is_refused() -> None:
    async with local_node() as node:
        answer = await post(node, "/v1/generate", NATIVE, "k" * 256)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")
