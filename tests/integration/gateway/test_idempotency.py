"""Requests with the same `Idempotency-Key` and body are one request, whether or not the first answer arrived."""

import functools
from typing import Any

import attrs
import pytest
import trio

from llmactors.backends.mock.oracle import mock_text
from llmactors.ledger import LedgerSettings
from llmactors.messages import ChatMessage, GenerateRequest
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.integration.gateway.conftest import Tenants

pytestmark = pytest.mark.integration

NATIVE: dict[str, Any] = {"prompt": "once", "max_tokens": 6}
CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "once"}], "max_tokens": 6, "n": 2}
ROUTES = [("/v1/generate", NATIVE), ("/v1/chat/completions", CHAT)]


async def post(node: LocalNode, path: str, body: dict[str, Any], key: str, **headers: str) -> Any:
    return await node.client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def shows(node: LocalNode, state: str) -> bool:
    return state in repr(node.node.ledger)


async def accepted(node: LocalNode) -> int:
    return (await node.node.ledger.statistics()).accepted_total


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_repeated_request_is_answered_and_not_run_again(path: str, body: dict[str, Any]) -> None:
    async with local_node(mock_model("step_ms=1"), rate_limit="2/h") as node:
        answers = [await post(node, path, body, "k") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert answers[0].json() == answers[1].json() == answers[2].json()
        statistics = await node.node.ledger.statistics()
        assert statistics.accepted_total == body.get("n", 1)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_another_body_under_the_same_key_is_a_conflict(path: str, body: dict[str, Any]) -> None:
    message = "this idempotency key was used before with another request"
    async with local_node() as node:
        await post(node, path, body, "k")
        others: list[dict[str, Any]] = [{"max_tokens": 7}, {"temperature": 0.1}, {"seed": 1}, {"stop": "x"}]
        others += [{"n": 1}, {"n": 3}] if "n" in body else [{"prompt": "twice"}, {"priority": 2}, {"raw": True}]
        for other in others:
            answer = await post(node, path, {**body, **other}, "k")
            assert answer.status_code == 409, other
            error = answer.json()["error"]
            if path == "/v1/generate":
                request_id = answer.headers["x-request-id"]
                assert error == {"code": "CONFLICT", "message": message, "request_id": request_id}
            else:
                conflict = {"type": "invalid_request_error", "param": None, "code": "conflict"}
                assert error == {"message": message, **conflict}
        assert await accepted(node) == body.get("n", 1)


async def test_same_relative_deadline_is_the_same_body() -> None:
    async with local_node(mock_model("step_ms=1")) as node:
        first = await post(node, "/v1/generate", {**NATIVE, "deadline_ms": 5000}, "k")
        await trio.sleep(0.01)
        second = await post(node, "/v1/generate", {**NATIVE, "deadline_ms": 5000}, "k")
        assert first.json() == second.json()


async def test_retry_after_a_lost_connection_gets_the_same_answer() -> None:
    async with local_node(mock_model("step_ms=20")) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, node, "/v1/generate", {**NATIVE, "max_tokens": 20}, "k")
            await wait_until(lambda: "1 running" in repr(node.node.ledger))
            nursery.cancel_scope.cancel(reason="the client leaves")
        answer = await post(node, "/v1/generate", {**NATIVE, "max_tokens": 20}, "k")
        assert answer.json()["usage"]["completion_tokens"] == 20
        assert (await node.node.ledger.statistics()).accepted_total == 1


async def test_two_requests_at_once_with_one_key_are_one() -> None:
    async with local_node(mock_model("step_ms=2")) as node:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append((await post(node, "/v1/generate", NATIVE, "k")).json())

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
        assert all(answer == answers[0] for answer in answers)
        assert (await node.node.ledger.statistics()).accepted_total == 1


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize("first_streams", [False, True])
async def test_repeat_of_a_running_request_follows_its_answer(
    path: str, body: dict[str, Any], first_streams: bool
) -> None:
    """Each repeat gets the answer from its beginning, in the form that the repeat asks for."""
    long = {**body, "max_tokens": 20}
    streamed: list[str] = []

    async def stream() -> None:
        answer = await post(node, path, {**long, "stream": True}, "k")
        streamed.append(answer.text)

    async with local_node(mock_model("step_ms=10")) as node:
        whole: Any = None
        async with trio.open_nursery() as nursery:
            if first_streams:
                nursery.start_soon(stream)
                await wait_until(lambda: "0 running" not in repr(node.node.ledger))
            else:
                nursery.start_soon(stream)
            nursery.start_soon(stream)
            whole = (await post(node, path, long, "k")).json()
        assert await accepted(node) == body.get("n", 1)
    if path == "/v1/generate":
        assert streamed[0] == streamed[1]
        assert whole["text"] == mock_text(GenerateRequest("", "mock", "once", max_tokens=20))
        assert f'"id":"{whole["id"]}"' in streamed[0]
        assert streamed[0].count("event: token") == 20
    else:
        messages = (ChatMessage("user", "once"),)
        text = mock_text(GenerateRequest("", "mock", "", messages=messages, max_tokens=20))
        assert [choice["message"]["content"] for choice in whole["choices"]] == [text] * 2
        assert all(each.count('"content":"') == 40 and whole["id"] in each for each in streamed)
        assert all(each.endswith("data: [DONE]\n\n") for each in streamed)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_same_key_of_two_tenants_is_two_requests(path: str, body: dict[str, Any], tenants: Tenants) -> None:
    tenants.add("a", "b")
    async with local_node(keys=str(tenants.path)) as node:
        ids = set()
        for tenant in ("a", "b", "a", "b"):
            own = {**body, "max_tokens": 6 if tenant == "a" else 7}
            answer = await post(node, path, own, "k", **tenants.headers(tenant))
            assert answer.status_code == 200
            ids.add(answer.json()["id"])
        assert len(ids) == 2
        assert await accepted(node) == 2 * body.get("n", 1)


async def test_tenant_cannot_forge_the_request_id_of_another() -> None:
    from llmactors.http.request_id import keyed_request_id

    ids = {keyed_request_id(tenant, key) for tenant, key in (("a", "b"), ("b", "a"), ("a:b", ""), ("", "a:b"))}
    assert len(ids) == 4


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_key_is_refused_after_retention_and_free_after_tombstone(
    path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = LedgerSettings(retention_s=0.1, tombstone_s=0.5)
    monkeypatch.setattr("llmactors.system.wiring.ledger_settings", lambda _: brief)
    async with local_node() as node:
        assert (await post(node, path, body, "k")).status_code == 200
        await wait_until(lambda: "0 ended" in repr(node.node.ledger))
        gone = await post(node, path, body, "k")
        assert (gone.status_code, gone.json()["error"]["code"].upper()) == (410, "EXPIRED")
        assert "send another key" in gone.json()["error"]["message"]
        assert await accepted(node) == body.get("n", 1)
        await wait_until(lambda: "0 tombstones" in repr(node.node.ledger._life.archive))
        assert (await post(node, path, body, "k")).status_code == 200
        assert await accepted(node) == 2 * body.get("n", 1)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_retry_after_the_grace_finds_the_request_cancelled(path: str, body: dict[str, Any]) -> None:
    """A request is not kept running for a client that may never return."""
    long = {**body, "max_tokens": 4000}
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.1) as node:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, node, path, long, "k")
            await wait_until(lambda: "0 running" not in repr(node.node.ledger))
            nursery.cancel_scope.cancel(reason="the client leaves")
        await wait_until(lambda: "0 running" in repr(node.node.ledger))
        again = await post(node, path, long, "k")
        if path == "/v1/generate":
            assert (again.status_code, again.json()["finish_reason"]) == (200, "cancelled")
        else:
            assert (again.status_code, again.json()["error"]["code"]) == (502, "interrupted")
            assert again.headers["x-should-retry"] == "false"


async def test_refused_request_leaves_its_key_free() -> None:
    async with local_node(mock_model("slots=1,step_ms=5"), max_queued=1) as node, trio.open_nursery() as nursery:
        for name, state in (("running", "0 queued, 1 running"), ("queued", "1 queued, 1 running")):
            nursery.start_soon(post, node, "/v1/generate", {**NATIVE, "max_tokens": 4000}, name)
            await wait_until(functools.partial(shows, node, state))
        assert (await post(node, "/v1/generate", NATIVE, "k")).status_code == 429
        nursery.cancel_scope.cancel(reason="there is room again")
    async with local_node() as node:
        assert (await post(node, "/v1/generate", NATIVE, "k")).status_code == 200


async def test_changed_limits_make_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the fields that the caller sent are compared."""
    async with local_node() as node:
        first = await post(node, "/v1/generate", NATIVE, "k")
        [record] = node.node.ledger._records.values()
        record.request = attrs.evolve(record.request, weight=3.0, resume_grace_ms=1)
        assert (await post(node, "/v1/generate", NATIVE, "k")).json() == first.json()


async def test_too_long_idempotency_key_is_refused() -> None:
    async with local_node() as node:
        answer = await post(node, "/v1/generate", NATIVE, "k" * 256)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_REQUEST")
