"""Keys and tenants at a real node: which key opens which route, and what a key allows."""

import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import structlog
import trio
import trio_websocket

from llmactors.access.keys.file import FileKeyStore, write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import NewKey, new_key
from llmactors.telemetry import configure_logging
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]


@attrs.frozen
class Keys:
    """A key file with one key of each kind."""

    path: Path
    acme: NewKey
    """The key of the tenant whose stream is requested."""
    colleague: NewKey
    """Another key of the same tenant."""
    other: NewKey
    """A key of another tenant."""
    revoked: NewKey
    expired: NewKey

    @property
    def store(self) -> FileKeyStore:
        return FileKeyStore(self.path)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys.json", *(new_key() for _ in range(5)))
    write_keys(
        made.path,
        [
            record_of(made.acme),
            record_of(made.colleague),
            record_of(made.other, tenant="other"),
            record_of(made.revoked, revoked=2.0),
            record_of(made.expired, expires=2.0),
        ],
    )
    return made


def record_of(key: NewKey, **changes: Any) -> KeyRecord:
    return KeyRecord(**{"id": key.id, "tenant": "acme", "hash": key.digest, "created": 1.0, **changes})


@contextlib.asynccontextmanager
async def guarded(keys: Keys, *models: Any, **settings: Any) -> AsyncIterator[LocalNode]:
    async with local_node(*models, keys=str(keys.path), **settings) as node:
        yield node


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}"}


PROMPT = {"prompt": "p", "max_tokens": 2}
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2}
ASK = {"model": "mock", "input": "p", "max_output_tokens": 16}

ROUTES: list[tuple[str, str, Any, int, int]] = [
    ("POST", "/v1/generate", PROMPT, 200, 200),
    ("POST", "/v1/generate", {**PROMPT, "stream": True}, 200, 200),
    ("GET", "/v1/streams/{id}", None, 200, 404),
    ("DELETE", "/v1/streams/{id}", None, 200, 404),
    ("POST", "/v1/chat/completions", CHAT, 200, 200),
    ("POST", "/v1/completions", {"model": "mock", **PROMPT}, 200, 200),
    ("POST", "/v1/responses", {**ASK, "background": True}, 200, 200),
    ("GET", "/v1/responses/{response}", None, 200, 404),
    ("POST", "/v1/responses/{response}/cancel", None, 200, 404),
    ("GET", "/v1/models", None, 200, 200),
    ("GET", "/v1/models/mock", None, 200, 200),
    ("POST", "/v1/ws/tickets", None, 200, 200),
    ("GET", "/v1/ws", None, 400, 400),
    ("GET", "/v1/tree", None, 403, 403),
    ("GET", "/v1/no-such-route", None, 404, 404),
]
"""Method, path, body, and the statuses for a resource of the caller's tenant and of another tenant."""


@pytest.mark.parametrize(("method", "path", "body", "own", "others"), ROUTES)
async def test_every_route_checks_every_kind_of_key(
    keys: Keys, method: str, path: str, body: Any, own: int, others: int
) -> None:
    async with guarded(keys, max_auth_failures=0) as node:
        made = await node.client.post("/v1/generate", json=PROMPT, headers=bearer(keys.acme))
        asked = await node.client.post("/v1/responses", json={**ASK, "background": True}, headers=bearer(keys.acme))
        where = path.format(id=made.json()["id"], response=asked.json()["id"])

        async def ask(headers: dict[str, str]) -> httpx.Response:
            return await node.client.request(method, where, json=body, headers=headers)

        half = attrs.evolve(keys.acme, text=keys.acme.text[:-8])
        never = new_key()
        refused: list[dict[str, str]] = [
            {},
            {"x-api-key": "wrong"},
            *map(bearer, (half, never, keys.revoked, keys.expired)),
        ]
        for headers in refused:
            answer = await ask(headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["error"]["code"] in {"UNAUTHENTICATED", "invalid_api_key"}
            assert "lla_" not in answer.text
        assert (await ask(bearer(keys.other))).status_code == others
        assert (await ask({"x-api-key": keys.colleague.text})).status_code == own
        assert (await ask(bearer(keys.acme))).status_code == own


async def test_health_and_metrics_need_no_key(keys: Keys) -> None:
    async with guarded(keys) as node:
        for path in ("/livez", "/readyz", "/healthz", "/metrics"):
            assert (await node.client.get(path)).status_code == 200


HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Socket:
    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self._socket = socket

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self._socket.send_message(json.dumps(message))
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(10):
            found: dict[str, Any] = json.loads(await self._socket.get_message())
        return found

    async def wait_closed(self) -> tuple[int, str]:
        """Reads until the server closes the socket; returns the code and the reason of the close."""
        with trio.fail_after(5), contextlib.suppress(trio_websocket.ConnectionClosed):
            while True:
                await self._socket.get_message()
        await self._socket._stream.aclose()  # trio_websocket does not close the stream if the server closes first
        assert self._socket.closed is not None
        return self._socket.closed.code, self._socket.closed.reason or ""


@contextlib.asynccontextmanager
async def socket(node: LocalNode, headers: dict[str, str] | None = None, query: str = "") -> AsyncIterator[Socket]:
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    url = f"ws://127.0.0.1:{node.port}/v1/ws{query}"
    async with trio_websocket.open_websocket_url(url, extra_headers=extra) as opened:
        yield Socket(opened)


async def refused(node: LocalNode, headers: dict[str, str] | None = None, query: str = "") -> int:
    """The status of a handshake, which must be refused."""
    async with httpx.AsyncClient(base_url=node.url, headers={**HANDSHAKE, **(headers or {})}) as client:
        answer = await client.get(f"/v1/ws{query}")
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    return answer.status_code


async def test_websocket_belongs_to_one_tenant(keys: Keys) -> None:
    async with guarded(keys, mock_model("step_ms=5")) as node:
        for headers in ({}, {"x-api-key": "wrong"}, bearer(keys.revoked), bearer(keys.expired), bearer(new_key())):
            assert await refused(node, headers) == 401
        async with socket(node, bearer(keys.acme)) as own, socket(node, bearer(keys.other)) as other:
            started = await own.ask(op="generate", prompt="p", max_tokens=500)
            for message in ({"op": "attach"}, {"op": "cancel"}):
                assert (await other.ask(**message, id=started["id"]))["error"]["code"] == "NOT_FOUND"
        async with socket(node, bearer(keys.colleague)) as colleague:
            assert (await colleague.ask(op="attach", id=started["id"]))["event"] == "accepted"
            assert (
                await node.client.delete(f"/v1/streams/{started['id']}", headers=bearer(keys.other))
            ).status_code == 404
            gone = await node.client.delete(f"/v1/streams/{started['id']}", headers=bearer(keys.acme))
            assert gone.json()["cancelled"]


@pytest.mark.parametrize("how", ["revoked", "rotated away", "expired"])
async def test_revoked_key_is_refused_and_its_sockets_close(keys: Keys, how: str) -> None:
    """A running HTTP answer goes on to its end after a revocation; a WebSocket, which has no end, closes."""
    changes: dict[str, Callable[[KeyRecord], KeyRecord]] = {
        "revoked": lambda record: record.revoke(3.0),
        "rotated away": lambda record: record.rotate(new_key(record.id), 3.0, 0.0),
        "expired": lambda record: attrs.evolve(record, expires=3.0),
    }
    model = mock_model("step_ms=10")
    async with guarded(keys, model, resume_grace_s=0.2) as node, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def whole() -> None:
            body = {"prompt": "q", "max_tokens": 100}
            answers.append(await node.client.post("/v1/generate", json=body, headers=bearer(keys.acme)))

        async with socket(node, bearer(keys.acme)) as own, socket(node, bearer(keys.colleague)) as colleague:
            await own.ask(op="generate", prompt="p", max_tokens=8000)
            nursery.start_soon(whole)
            await wait_until(lambda: "2 running" in repr(node.node.ledger))
            await keys.store.change(keys.acme.id, changes[how])
            assert (await node.client.get("/v1/models", headers=bearer(keys.acme))).status_code == 401
            assert await own.wait_closed() == (1008, "the API key is not valid any more")
            assert (await colleague.ask(op="generate", prompt="p", max_tokens=1))["event"] == "accepted"
        await wait_until(lambda: bool(answers))
        assert answers[0].status_code == 200
        assert answers[0].json()["usage"]["completion_tokens"] == 100
        await wait_until(lambda: "0 queued, 0 running" in repr(node.node.ledger))


async def test_rotated_key_works_with_both_secrets_in_the_overlap(keys: Keys) -> None:
    async with guarded(keys) as node:
        fresh = new_key(keys.acme.id)
        await keys.store.change(fresh.id, lambda record: record.rotate(fresh, 3.0, 1e12))
        for key in (keys.acme, fresh):
            assert (await node.client.post("/v1/generate", json=PROMPT, headers=bearer(key))).status_code == 200


async def test_key_sees_and_uses_only_its_models(keys: Keys) -> None:
    await keys.store.change(keys.acme.id, lambda record: attrs.evolve(record, models=frozenset({"second", "none"})))
    await keys.store.change(keys.other.id, lambda record: attrs.evolve(record, models=frozenset({"none"})))
    async with guarded(keys, mock_model(name="first"), mock_model(name="second")) as node:

        async def ask(key: NewKey, model: str | None) -> httpx.Response:
            body = PROMPT if model is None else {**PROMPT, "model": model}
            return await node.client.post("/v1/generate", json=body, headers=bearer(key))

        async def listed(key: NewKey) -> list[str]:
            answer = await node.client.get("/v1/models", headers=bearer(key))
            return [model["id"] for model in answer.json()["data"]]

        assert (await listed(keys.colleague), await listed(keys.acme), await listed(keys.other)) == (
            ["first", "second"],
            ["second"],
            [],
        )
        assert (await ask(keys.colleague, None)).json()["model"] == "first"
        assert (await ask(keys.acme, None)).json()["model"] == "second"
        assert (await ask(keys.acme, "second")).status_code == 200
        not_for_it = await ask(keys.acme, "first")
        assert (not_for_it.status_code, "first" in not_for_it.json()["error"]["message"]) == (404, False)
        assert (await ask(keys.other, None)).status_code == 404
        for path, status in (("first", 404), ("second", 200)):
            answer = await node.client.get(f"/v1/models/{path}", headers=bearer(keys.acme))
            assert answer.status_code == status
        chat = await node.client.post(
            "/v1/chat/completions", json={**CHAT, "model": "first"}, headers=bearer(keys.acme)
        )
        assert chat.status_code == 404
        async with socket(node, bearer(keys.acme)) as own:
            answer_ = await own.ask(op="generate", model="first", prompt="p")
            assert answer_["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(("best", "asked", "served"), [(0, 0, 0), (1, 0, 1), (2, None, 2), (1, 2, 2), (2, 1, 2)])
async def test_priority_is_no_better_than_that_of_the_key(
    keys: Keys, best: int, asked: int | None, served: int
) -> None:
    await keys.store.change(keys.acme.id, lambda record: attrs.evolve(record, best_priority=best, weight=2.5))
    async with guarded(keys) as node:
        body = PROMPT if asked is None else {**PROMPT, "priority": asked}
        answer = await node.client.post("/v1/generate", json=body, headers=bearer(keys.acme))
        request = (await node.node.ledger.info(answer.json()["id"])).request
        assert (request.priority, request.weight, request.tenant) == (served, 2.5, "acme")


async def test_changed_weight_is_the_same_idempotent_request(keys: Keys) -> None:
    async with guarded(keys) as node:
        headers = {**bearer(keys.acme), "idempotency-key": "once"}
        first = await node.client.post("/v1/generate", json=PROMPT, headers=headers)
        await keys.store.change(keys.acme.id, lambda record: attrs.evolve(record, weight=9.0))
        again = await node.client.post("/v1/generate", json=PROMPT, headers=headers)
        assert (again.status_code, again.json()) == (200, first.json())


async def test_wrong_keys_are_limited_by_address(keys: Keys, nothing_left: NothingLeft) -> None:
    async with guarded(keys, max_auth_failures=3) as node:
        node.client.headers.update(bearer(keys.acme))
        async with nothing_left(node):
            wrong = {"authorization": "", "x-api-key": "wrong"}
            for _ in range(3):
                assert (await node.client.get("/v1/models", headers=wrong)).status_code == 401
            for path in ("/v1/models", "/v1/tree", "/v1/generate"):
                answer = await node.client.get(path, headers=wrong)
                assert answer.status_code == 429
                assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert await refused(node, wrong) == 429
            assert await refused(node, query="?ticket=wrong") == 429
            assert (await node.client.get("/v1/models")).status_code == 200
        node.crash("node/http/gateway")
        await node.wait_running("node/http/gateway", 2)
        assert (await node.client.get("/v1/models", headers=wrong)).status_code == 429


async def ticket(node: LocalNode, key: NewKey) -> str:
    answer = await node.client.post("/v1/ws/tickets", headers=bearer(key))
    assert (answer.status_code, answer.json()["expires_in_s"]) == (200, 30)
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


async def test_ticket_opens_one_websocket_of_its_tenant(keys: Keys) -> None:
    async with guarded(keys, max_auth_failures=0) as node:
        made = await node.client.post("/v1/generate", json=PROMPT, headers=bearer(keys.acme))
        own, others = await ticket(node, keys.acme), await ticket(node, keys.other)
        async with socket(node, query=f"?ticket={own}") as opened:
            assert (await opened.ask(op="attach", id=made.json()["id"]))["event"] == "accepted"
        async with socket(node, query=f"?ticket={others}") as opened:
            assert (await opened.ask(op="attach", id=made.json()["id"]))["error"]["code"] == "NOT_FOUND"
        for used in (own, others, "llt_wrong", ""):
            assert await refused(node, query=f"?ticket={used}") == 401
        late = await ticket(node, keys.acme)
        await keys.store.change(keys.acme.id, lambda record: record.revoke(3.0))
        assert await refused(node, query=f"?ticket={late}") == 401
        assert (await node.client.get("/v1/ws/tickets", headers=bearer(keys.other))).status_code == 405
        # A ticket opens nothing but a WebSocket.
        answer = await node.client.get(f"/v1/models?ticket={await ticket(node, keys.other)}")
        assert answer.status_code == 401


async def test_websocket_opened_by_ticket_ends_with_its_key(keys: Keys) -> None:
    async with guarded(keys) as node, socket(node, query=f"?ticket={await ticket(node, keys.acme)}") as opened:
        await keys.store.change(keys.acme.id, lambda record: record.revoke(3.0))
        assert (await opened.wait_closed())[0] == 1008


async def test_ticket_needs_no_key_on_a_node_without_keys() -> None:
    async with local_node() as node:
        answer = await node.client.post("/v1/ws/tickets")
        async with socket(node, query=f"?ticket={answer.json()['ticket']}") as opened:
            assert (await opened.ask(op="generate", prompt="p", max_tokens=1))["event"] == "accepted"


async def test_page_of_another_origin_opens_no_websocket(keys: Keys) -> None:
    async with guarded(keys, allowed_origins=("https://app.example.com",)) as node:
        for origin, opens in (
            ("https://evil.example", False),
            ("null", False),
            ("https://app.example.com", True),
            (node.url, True),
        ):
            headers = {**bearer(keys.acme), "origin": origin}
            if opens:
                async with socket(node, headers) as opened:
                    assert (await opened.ask(op="generate", prompt="p", max_tokens=1))["event"] == "accepted"
            else:
                assert await refused(node, headers) == 403
        kept = await ticket(node, keys.acme)
        assert await refused(node, {"origin": "https://evil.example"}, f"?ticket={kept}") == 403
        async with socket(node, {"origin": node.url}, f"?ticket={kept}"):
            pass  # a page of a forbidden origin uses up no ticket


async def test_logs_contain_no_key_and_no_ticket(keys: Keys) -> None:
    stream = io.StringIO()
    configure_logging(json=True, level="debug", stream=stream)
    try:
        async with guarded(keys, access_log=True) as node:
            never = new_key()
            for key in (keys.acme, never, keys.revoked):
                for path in (
                    "/v1/models",
                    f"/v1/{key.text}",
                    f"/v1/streams/x?ticket={key.text}",
                    f"/v1/streams/{key.text}",
                ):
                    await node.client.get(path, headers={**bearer(key), "x-request-id": key.text})
            good = await ticket(node, keys.acme)
            async with socket(node, query=f"?ticket={good}") as opened:
                await opened.ask(op=never.text)
            assert await refused(node, query=f"?ticket={good}") == 401
            metrics = (await node.client.get("/metrics")).text
    finally:
        structlog.reset_defaults()
        configure_logging(json=True, level="info", stream=io.StringIO())
    written = stream.getvalue() + metrics
    assert '"status": 401' in written
    for secret in (keys.acme.text[17:], never.text[17:], keys.revoked.text[17:], good[4:]):
        assert secret not in written


async def test_empty_key_file_admits_nobody(keys: Keys) -> None:
    write_keys(keys.path, [])
    async with guarded(keys) as node:
        assert (await node.client.get("/v1/models", headers=bearer(keys.acme))).status_code == 401
        assert (await node.client.get("/v1/models")).status_code == 401
        assert await refused(node) == 401


async def test_node_key_works_beside_a_key_file(keys: Keys) -> None:
    async with guarded(keys, api_key="s3cret") as node:
        own = await node.client.post("/v1/generate", json=PROMPT, headers={"x-api-key": "s3cret"})
        assert own.status_code == 200
        path = f"/v1/streams/{own.json()['id']}"
        assert (await node.client.get(path, headers=bearer(keys.acme))).status_code == 404
        assert (await node.client.get(path, headers={"x-api-key": "s3cret"})).status_code == 200
