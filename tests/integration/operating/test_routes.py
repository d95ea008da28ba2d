"""The JSON routes for operators at a node in one process: what they show, and whom they refuse."""

import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from llmactors.access.keys.file import FileKeyStore, write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import NewKey, new_key
from llmactors.gateway.routes import ROUTES
from llmactors.ledger import ReleaseHow
from llmactors.limiter.limits import Budget, Limits
from llmactors.testing.ledger_suite import request
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.longest_hold import LongestHold

pytestmark = pytest.mark.integration

FOR_OPERATORS = [route for route in ROUTES if route.for_operators]
SECRET_PROMPT = "a prompt that nobody else may read"
MOST_S = 0.02
"""The longest time in which one request may hold the loop."""
TRIES = 3
SLOW = "slots=1,step_ms=50,eos_one_in=0"


@attrs.frozen
class Keys:
    """A key file with the key of an operator and the key of a tenant."""

    path: Path
    operator: NewKey
    tenant: NewKey


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(tmp_path / "keys.json", new_key(), new_key())
    write_keys(made.path, [record_of(made.operator, tenant="operators", operator=True), record_of(made.tenant)])
    return made


def record_of(key: NewKey, **changes: Any) -> KeyRecord:
    return KeyRecord(**{"id": key.id, "tenant": "acme", "hash": key.digest, "created": 1.0, **changes})


def bearer(key: NewKey) -> dict[str, str]:
    return {"authorization": f"Bearer {key.text}"}


@contextlib.asynccontextmanager
async def guarded(keys: Keys, *models: Any, **settings: Any) -> AsyncIterator[LocalNode]:
    async with local_node(*models, keys=str(keys.path), **settings) as node:
        node.client.cookies.clear()
        yield node


@contextlib.asynccontextmanager
async def busy(node: LocalNode, count: int, **headers: str) -> AsyncIterator[None]:
    """Requests that run or wait while the block runs."""
    body = {"prompt": SECRET_PROMPT, "max_tokens": 500, "priority": 2}
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(lambda: node.client.post("/v1/generate", json=body, headers=headers))
        await wait_until(lambda: sum(node.node.directory.running.values()) > 0)
        yield
        nursery.cancel_scope.cancel()


async def wait_total(node: LocalNode, count: int) -> None:
    """Waits until so many requests have not ended, and the oldest one has a token."""
    with trio.fail_after(5):
        while True:
            found = (await node.client.get("/v1/operator/requests")).json()
            if found["total"] == count and found["requests"][0]["tokens"]:
                return


async def test_every_route_refuses_every_other_key(keys: Keys) -> None:
    async with guarded(keys, max_auth_failures=0) as node:
        for route in FOR_OPERATORS:
            path = route.path.replace("{id:path}", "req_x").replace("{name}", "node")
            asked = [
                await node.client.request(route.method, path, headers=headers)
                for headers in ({}, {"x-api-key": "wrong"}, bearer(keys.tenant), bearer(keys.operator))
            ]
            unknown, wrong, tenant, operator = (each.status_code for each in asked)
            assert (unknown, wrong, tenant) == (401, 401, 403), path
            assert asked[2].json()["error"]["code"] == "FORBIDDEN"
            assert operator not in {401, 403}, path


async def test_requests_and_queue_show_no_prompt() -> None:
    async with local_node(mock_model(SLOW)) as node:
        await node.wait_ready()
        async with busy(node, 3):
            await wait_total(node, 3)
            found = (await node.client.get("/v1/operator/requests")).json()
            assert (found["total"], [row["state"] for row in found["requests"]]) == (3, ["running", "queued", "queued"])
            running = found["requests"][0]
            assert (running["class"], running["attempts"], running["tenant"]) == (2, 1, "anonymous")
            one = (await node.client.get(f"/v1/operator/requests/{running['id']}")).json()
            assert one["first_token_unix_s"] >= one["admitted_unix_s"]
            assert (one["ended_unix_s"], one["outcome"]) == (None, None)
            [row] = (await node.client.get("/v1/operator/queue")).json()["models"]
            assert (row["model"], row["class"], row["tenant"], row["waiting"]) == ("mock", 2, "anonymous", 2)
            [model] = (await node.client.get("/v1/operator/models")).json()["models"]
            assert (model["slots"], model["slots_busy"], model["waiting"], model["workers"]) == (1, 1, 2, 1)
            [one_node] = (await node.client.get("/v1/operator/nodes")).json()["nodes"]
            assert (one_node["roles"], one_node["slots_busy"]) == (["gateway", "worker"], 1)
            for route in FOR_OPERATORS:
                if route.method == "GET":
                    path = route.path.replace("{id:path}", running["id"])
                    assert SECRET_PROMPT not in (await node.client.get(path)).text


async def test_wrong_queries_name_the_parameter() -> None:
    async with local_node() as node:
        for query, name in (
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=" + "9" * 400, "limit"),
            ("limit=-1", "limit"),
            ("state=ended", "state"),
            ("nothing=1", "nothing"),
        ):
            answer = await node.client.get(f"/v1/operator/requests?{query}")
            assert answer.status_code == 400, query
            assert f"`{name}`" in answer.json()["error"]["message"]
        many = "&".join(f"a{number}=1" for number in range(1000))
        assert (await node.client.get(f"/v1/operator/requests?{many}")).status_code == 400
        for odd in ("%00", "a/b/c", "%3Cscript%3E", "..%2F..", "x" * 4000, "%F0%9F%92%A5"):
            for method, path in (
                ("GET", f"/v1/operator/requests/{odd}"),
                ("POST", f"/v1/operator/dead-letters/{odd}/requeue"),
                ("DELETE", f"/v1/operator/dead-letters/{odd}"),
            ):
                answer = await node.client.request(method, path)
                assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json"), (odd, path)


async def test_dead_letter_is_listed_requeued_and_purged() -> None:
    async with local_node() as node:
        for name in ("a", "b", "c"):
            await give_up(node, f"req_{name}")
        listed = await node.client.get("/v1/operator/dead-letters?limit=2")
        found = listed.json()
        assert (found["total"], [row["id"] for row in found["dead_letters"]]) == (3, ["req_c", "req_b"])
        assert (found["dead_letters"][0]["cause"], found["dead_letters"][0]["tenant"]) == ("because", "<script>")
        assert SECRET_PROMPT not in listed.text
        again = await node.client.post("/v1/operator/dead-letters/req_c/requeue")
        shown = (await node.client.get(f"/v1/operator/requests/{again.json()['id']}")).json()
        assert (shown["state"], shown["model"]) == ("queued", "not served")
        assert (await node.client.delete("/v1/operator/dead-letters/req_b")).json() == {"purged": 1}
        assert (await node.client.delete("/v1/operator/dead-letters/req_b")).status_code == 404
        assert (await node.client.post("/v1/operator/dead-letters/req_b/requeue")).status_code == 404
        left = (await node.client.get("/v1/operator/dead-letters")).json()
        assert [row["id"] for row in left["dead_letters"]] == ["req_a"]


async def give_up(node: LocalNode, request_id: str) -> None:
    """Makes a dead letter in the ledger of the node."""
    ledger = node.node.ledger
    await ledger.submit(request(request_id, model="not served", prompt=SECRET_PROMPT, tenant="<script>"))
    await ledger.beat("w")
    [claim] = await ledger.claim("w", "not served", 1)
    await ledger.release(request_id, claim.epoch, ReleaseHow.FATAL, "because")


async def test_cookie_stands_for_the_key_of_an_operator(keys: Keys) -> None:
    async with guarded(keys, mock_model()) as node:
        await node.wait_ready()
        client = node.client
        assert (await client.get("/v1/operator/session")).json()["operator"] is False
        begun = await client.post("/v1/operator/session", json={"key": keys.operator.text})
        assert (begun.status_code, begun.json()["operator"], begun.json()["keys"]) == (200, True, True)
        cookie = begun.headers["set-cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        assert "Secure" not in cookie
        assert keys.operator.text not in cookie
        client.cookies.clear()
        session = {"cookie": cookie.partition(";")[0]}
        own = {**session, "origin": node.url}
        assert (await client.get("/v1/operator/session", headers=session)).json()["operator"] is True
        assert (await client.get("/v1/operator/nodes", headers=session)).status_code == 200
        asked = await client.post("/v1/generate", json={"prompt": "p", "max_tokens": 2}, headers=own)
        assert asked.status_code == 200
        ended = await client.delete("/v1/operator/session", headers=own)
        assert "Max-Age=0" in ended.headers["set-cookie"]
        assert (await client.get("/v1/operator/nodes", headers=session)).status_code == 401


async def test_cookie_of_a_foreign_page_changes_nothing(keys: Keys) -> None:
    async with guarded(keys, mock_model(), allowed_origins=["https://other.example"]) as node:
        begun = await node.client.post("/v1/operator/session", json={"key": keys.operator.text})
        node.client.cookies.clear()
        session = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        for page in (
            {},
            {"origin": "https://other.example"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "cross-site", "origin": "https://other.example"},
        ):
            for method, path in (
                ("DELETE", "/v1/operator/dead-letters/x"),
                ("DELETE", "/v1/operator/session"),
                ("POST", "/v1/generate"),
            ):
                answer = await node.client.request(method, path, json={"prompt": "p"}, headers={**session, **page})
                assert answer.status_code == 403, page
        answer = await node.client.get("/v1/operator/nodes", headers={**session, "origin": "https://other.example"})
        assert "access-control-allow-credentials" not in answer.headers


async def test_session_ends_with_its_key(keys: Keys) -> None:
    async with guarded(keys, max_auth_failures=3) as node:
        client = node.client
        refused = await client.post("/v1/operator/session", json={"key": keys.tenant.text})
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        begun = await client.post(
            "/v1/operator/session", json={"key": keys.operator.text}, headers={"origin": f"https://{node.url[7:]}"}
        )
        assert "; Secure" in begun.headers["set-cookie"]
        client.cookies.clear()
        session = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        assert (await client.get("/v1/operator/nodes", headers=session)).status_code == 200
        await FileKeyStore(keys.path).change(keys.operator.id, lambda record: record.revoke(2.0))
        assert (await client.get("/v1/operator/nodes", headers=session)).status_code == 401
        statuses = [
            (await client.post("/v1/operator/session", json={"key": f"wrong {number}"})).status_code
            for number in range(4)
        ]
        assert statuses[-1] == 429
        for body in ({}, {"key": 1}, {"key": ""}, {"key": "x", "more": 1}):
            assert (await client.post("/v1/operator/session", json=body)).status_code == 400


async def test_node_without_keys_needs_no_session() -> None:
    async with local_node() as node:
        begun = await node.client.post("/v1/operator/session", json={"key": "any"})
        assert (begun.json()["operator"], begun.json()["keys"], "set-cookie" in begun.headers) == (True, False, False)
        foreign = {"origin": "https://evil.example"}
        for method, path in (("POST", "/v1/operator/dead-letters/x/requeue"), ("POST", "/v1/operator/session")):
            assert (await node.client.request(method, path, headers=foreign, json={})).status_code == 403
        assert (await node.client.get("/v1/operator/nodes", headers={"host": "evil.example"})).status_code == 403


async def test_hostile_names_are_json_text() -> None:
    hostile = "<script>"
    async with local_node(mock_model(SLOW)) as node:
        await node.wait_ready()
        for number in range(3):
            await node.node.ledger.submit(request(f"req_{number}", tenant=hostile, model="mock", max_tokens=400))
        await wait_total(node, 3)
        for path in ("/v1/operator/requests", "/v1/operator/queue"):
            answer = await node.client.get(path)
            assert answer.headers["content-type"] == "application/json"
            [rows] = [value for value in answer.json().values() if isinstance(value, list)]
            assert rows[0]["tenant"] == hostile
        for model, total in (("mock", 3), (hostile, 0)):
            found = await node.client.get("/v1/operator/requests", params={"tenant": hostile, "model": model})
            assert found.json()["total"] == total


async def test_tenants_show_keys_limits_and_use(keys: Keys) -> None:
    limited = new_key()
    limits = Limits(requests_per_minute=9, tokens_per_day=5000, budgets=(Budget(5_000_000, "day"),))
    await FileKeyStore(keys.path).add(
        record_of(limited, created=2.0, limits=limits, expires=4e9, models=frozenset({"mock"}))
    )
    async with guarded(keys, mock_model("eos_one_in=0")) as node:
        await node.wait_ready()
        for _ in range(2):
            await node.client.post("/v1/generate", json={"prompt": "p", "max_tokens": 7}, headers=bearer(limited))
        answer = await node.client.get("/v1/operator/tenants", headers=bearer(keys.operator))
        found = {row["tenant"]: row for row in answer.json()["tenants"]}
        assert sorted(found) == ["acme", "operators"]
        unlimited, shown = found["acme"]["keys"]
        assert (unlimited["id"], unlimited["limits"], unlimited["expires_unix_s"]) == (keys.tenant.id, {}, None)
        assert (shown["id"], shown["state"], shown["models"], shown["class"]) == (limited.id, "active", ["mock"], 1)
        assert shown["limits"] == {"requests_per_minute": 9, "tokens_per_day": 5000, "budget_per_day": "0.005"}
        use = found["acme"]["use"]
        assert (use["requests_per_minute"], use["requests_today"], use["budget_per_day"]) == (2, 2, "0.00")
        assert use["tokens_per_day"] == use["tokens_today"] >= 14
        assert found["operators"]["keys"][0]["operator"] is True
        for key in (keys.tenant, keys.operator, limited):
            assert key.text not in answer.text
            assert key.digest.sha256 not in answer.text


async def test_looks_at_thousands_of_requests_hold_the_loop_briefly() -> None:
    models = [mock_model(SLOW, name=f"m{number}") for number in range(3)]
    async with local_node(*models, max_queued=20_000) as node:
        ledger = node.node.ledger
        for number in range(3000):
            await ledger.submit(
                request(f"req_{number}", tenant=f"t{number % 700}", model=f"m{number % 3}", max_tokens=400)
            )
        gc.collect()
        for path in ("requests?limit=500", "requests?tenant=t5", "queue", "models", "requests/req_2999"):
            holds = []
            for _ in range(TRIES):
                hold = LongestHold()
                trio.lowlevel.add_instrument(hold)
                answer = await node.client.get(f"/v1/operator/{path}")
                trio.lowlevel.remove_instrument(hold)
                assert answer.status_code == 200, path
                holds.append(hold.seconds)
            assert min(holds) < MOST_S, path
        found = (await node.client.get("/v1/operator/requests?limit=500")).json()
        assert (len(found["requests"]), found["total"], found["requests"][0]["id"]) == (500, 3000, "req_0")
        assert len((await node.client.get("/v1/operator/queue")).json()["models"]) == 500
