"""What web pages of other origins, and pages whose host name was rebound to the node, get from every route."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import httpx
import pytest
import trio

from llmactors.access.cors import EXPOSED
from llmactors.backends.build import ServedModel
from llmactors.gateway.actor import OperatorsActor
from llmactors.gateway.client_rules import ClientRules, served_hosts
from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.route import Route
from llmactors.gateway.routes import ROUTES
from llmactors.http.server import ListeningSocket
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until

pytestmark = pytest.mark.integration

APP = "https://app.example.com"
EVIL = "https://evil.example"
HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
BODIES: dict[str, Any] = {
    "/v1/generate": {"prompt": "p", "max_tokens": 2},
    "/v1/chat/completions": {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2},
    "/v1/completions": {"model": "mock", "prompt": "p", "max_tokens": 2},
    "/v1/responses": {"model": "mock", "input": "p", "background": True},
    "/v1/embeddings": {"model": "mock", "input": "p"},
    "/v1/rerank": {"model": "mock", "query": "p", "documents": ["p"]},
    "/v1/operator/session": {"key": "any"},
    "/v1/operator/nodes/{name}/drain": {},
    "/v1/operator/nodes/{name}/uncordon": {},
    "/v1/operator/reload": {},
    "/v1/messages": {"model": "mock", "messages": [{"role": "user", "content": "p"}], "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": "mock", "messages": [{"role": "user", "content": "p"}]},
}
STREAMED = ["/v1/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
CHANGING = [route for route in ROUTES if route.method != "GET"]
NO_PROBES = [route for route in ROUTES if not route.is_probe]
PROBES = [route for route in ROUTES if route.is_probe]


def path_of(route: Route) -> str:
    return route.path.replace("{id:path}", "req_x").replace("{model:path}", "mock").replace("{id}", "resp_x")


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


async def ask(node: LocalNode, route: Route, headers: dict[str, str]) -> httpx.Response:
    """Sends what a page could send: a form's content type needs no preflight."""
    more = HANDSHAKE if route.socket is not None else {"content-type": "text/plain"}
    body = BODIES.get(route.path)
    async with httpx.AsyncClient(base_url=node.url, trust_env=False) as client:
        request = client.build_request(route.method, path_of(route), json=body, headers={**more, **headers})
        if route.method == "GET" and route.socket is None:
            request.headers.pop("content-type", None)
        return await client.send(request)


def assert_refused(answer: httpx.Response, setting: str) -> None:
    error = answer.json()["error"]
    code = error.get("code") or error["type"]  # Anthropic's errors have a type and no code
    assert answer.status_code == 403
    assert code in {"FORBIDDEN", "forbidden", "permission_error"}
    assert f"`{setting}`" in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("route", NO_PROBES, ids=named)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
async def test_rebound_name_gets_nothing_from_any_route(route: Route, host: str) -> None:
    async with local_node() as node:
        for origin in ({}, {"origin": f"http://{host}"}, {"sec-fetch-site": "same-origin"}):
            assert_refused(await ask(node, route, {"host": host, **origin}), "allowed_hosts")
            preflight = {"host": host, "access-control-request-method": route.method, **origin}
            assert_refused(await node.client.request("OPTIONS", path_of(route), headers=preflight), "allowed_hosts")


async def test_rebound_name_finds_no_unknown_route() -> None:
    async with local_node() as node:
        for path in ("/", "/v1/none", "/metrics/x"):
            assert_refused(await node.client.get(path, headers={"host": "evil.example"}), "allowed_hosts")


@pytest.mark.parametrize("route", PROBES, ids=named)
async def test_probes_and_scrapes_name_the_node_as_they_like(route: Route) -> None:
    async with local_node() as node:
        assert (await ask(node, route, {"host": "gateway-1.internal:8000"})).status_code == 200


async def test_probes_are_the_routes_for_health_and_metrics() -> None:
    assert {route.path for route in PROBES} == {"/livez", "/readyz", "/health", "/healthz", "/metrics"}


@pytest.mark.parametrize(
    ("settings", "host", "served"),
    [
        ({}, "localhost:1", True),
        ({}, "[::1]:1", True),
        ({"allowed_hosts": ("llm.example.com",)}, "llm.example.com:8000", True),
        ({"allowed_hosts": ("llm.example.com",)}, "evil.example", False),
        ({"allowed_hosts": ("*",)}, "evil.example", True),
        ({"bind": "localhost:0"}, "localhost:8000", True),
        # A page whose name was rebound has no key.
        ({"api_key": "s3cret"}, "llm.example.com", True),
    ],
)
async def test_allowed_names_are_served(settings: dict[str, Any], host: str, served: bool) -> None:
    async with local_node(**settings) as node:
        answer = await node.client.get("/v1/models", headers={"host": host, "x-api-key": "s3cret"})
        assert answer.status_code == (200 if served else 403)


async def test_rebound_name_opens_nothing_with_keys() -> None:
    async with local_node(api_key="s3cret") as node:
        for route in NO_PROBES:
            if not route.is_open:
                headers = {"host": "evil.example", "origin": "http://evil.example"}
                assert (await ask(node, route, headers)).status_code == 401, named(route)


@contextlib.asynccontextmanager
async def workers_port(*allowed_hosts: str) -> AsyncIterator[httpx.AsyncClient]:
    """The operators' port of a worker, for the pages of a node."""
    async with local_node() as node:
        operated = OperatedNode(
            problems=dict,
            tree=node.node.statistics,
            metrics=node.node.metrics,
            directory=node.node.directory,
            draining=lambda: False,
        )
        listening = ListeningSocket("127.0.0.1:0")
        actor = OperatorsActor(operated, listening, ClientRules(served_hosts(allowed_hosts, "127.0.0.1:0")))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor._server.serve)
            async with httpx.AsyncClient(base_url=listening.url, trust_env=False) as client:
                yield client
            nursery.cancel_scope.cancel(reason="the test is over")
        listening.close()


async def test_workers_port_refuses_a_rebound_name() -> None:
    async with workers_port("worker.internal") as client:
        for host, tree in (("evil.example", 403), ("127.0.0.1:9100", 200), ("worker.internal:9100", 200)):
            assert (await client.get("/v1/tree", headers={"host": host})).status_code == tree
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await client.get(path, headers={"host": host})).status_code == 200


async def test_workers_port_shows_the_console_to_look_at() -> None:
    async with workers_port() as client:
        page = await client.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (await client.get("/console/app.js")).status_code == 200
        changes = [route for route in CHANGING if route.path.startswith("/v1/operator") and route.on_worker]
        assert {route.path for route in changes} <= {"/v1/operator/session"}


FOREIGN: list[dict[str, str]] = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": "file://"},
    {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
    {"origin": EVIL, "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("api_key", [None, "s3cret"])
@pytest.mark.parametrize("route", [*CHANGING, *(route for route in ROUTES if route.socket)], ids=named)
async def test_foreign_page_changes_nothing(route: Route, api_key: str | None) -> None:
    async with local_node(api_key=api_key, allowed_origins=(APP,)) as node:
        key = {} if api_key is None else {"x-api-key": api_key}
        for page in FOREIGN:
            assert_refused(await ask(node, route, {**page, **key}), "allowed_origins")
        metrics = (await node.client.get("/metrics")).text
        assert "llm_gateway_tokens_generated_total 0.0" in metrics
        assert "0 queued, 0 running" in repr(node.node.ledger)


@pytest.mark.parametrize("route", CHANGING, ids=named)
async def test_own_pages_allowed_pages_and_programs_are_served(route: Route) -> None:
    async with local_node(allowed_origins=(APP, "null")) as node:
        for page in (
            {},
            {"origin": APP, "sec-fetch-site": "cross-site"},
            {"origin": "null", "sec-fetch-site": "cross-site"},
            {"origin": node.url, "sec-fetch-site": "same-origin"},
            {"origin": node.url},
            {"sec-fetch-site": "none"},
            {"origin": "https://llm.example.com", "sec-fetch-site": "same-origin"},
            {"origin": "https://localhost", "host": "localhost"},
        ):
            # A node that a test made has no sources of settings to read again.
            reloads = route.path == "/v1/operator/reload"
            assert (await ask(node, route, page)).status_code in ({400} if reloads else {200, 404})


def assert_readable(answer: httpx.Response, origin: str) -> None:
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-expose-headers"].split(", ") == list(EXPOSED)
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("api_key", [None, "s3cret"])
@pytest.mark.parametrize("route", [route for route in ROUTES if not route.socket], ids=named)
async def test_preflight_is_answered_before_the_key(route: Route, api_key: str | None) -> None:
    async with local_node(api_key=api_key, allowed_origins=(APP,)) as node:
        headers = {
            "origin": APP,
            "access-control-request-method": route.method,
            "access-control-request-headers": "authorization,content-type,x-stainless-os",
            "access-control-request-private-network": "true",
        }
        answer = await node.client.request("OPTIONS", path_of(route), headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert_readable(answer, APP)
        assert route.method in answer.headers["access-control-allow-methods"].split(", ")
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-stainless-os"
        assert answer.headers["access-control-allow-private-network"] == "true"
        assert int(answer.headers["access-control-max-age"]) > 0
        for origin in (EVIL, "null"):
            refused = await node.client.request("OPTIONS", path_of(route), headers={**headers, "origin": origin})
            assert_refused(refused, "allowed_origins")
            assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.socket], ids=named)
@pytest.mark.parametrize("allowed", [APP, "*"])
async def test_allowed_page_reads_answers_and_errors(route: Route, allowed: str) -> None:
    async with local_node(api_key="s3cret", allowed_origins=(allowed,)) as node:
        for key in ({"x-api-key": "s3cret"}, {}, {"x-api-key": "wrong"}):
            answer = await ask(node, route, {"origin": APP, "sec-fetch-site": "cross-site", **key})
            assert_readable(answer, APP)
            if not route.is_open and "s3cret" not in key.values():
                assert answer.status_code == 401
        assert "access-control-allow-origin" not in (await ask(node, route, {"x-api-key": "s3cret"})).headers


@pytest.mark.parametrize("path", STREAMED)
async def test_allowed_page_reads_streams(path: str) -> None:
    async with local_node(allowed_origins=(APP,)) as node:
        body = {**BODIES[path], "stream": True}
        body.pop("background", None)
        answer = await node.client.post(path, json=body, headers={"origin": APP})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert_readable(answer, APP)


async def test_page_reads_errors_without_a_route() -> None:
    async with local_node(allowed_origins=(APP,)) as node:
        for method, path, status in (("GET", "/v1/none", 404), ("PUT", "/v1/generate", 405)):
            answer = await node.client.request(method, path, headers={"origin": APP})
            assert answer.status_code == status
            assert_readable(answer, APP)


@attrs.frozen
class Behind:
    """A node, asked as by a proxy on 127.0.0.1."""

    node: LocalNode

    async def get(self, client: str, key: str = "", path: str = "/v1/models") -> httpx.Response:
        headers = {"x-forwarded-for": client, **({"x-api-key": key} if key else {})}
        return await self.node.client.get(path, headers=headers)


@contextlib.asynccontextmanager
async def behind_a_proxy(*models: ServedModel, trusted: Sequence[str], **settings: Any) -> AsyncIterator[Behind]:
    async with local_node(*models, trusted_proxies=tuple(trusted), **settings) as node:
        yield Behind(node)


async def test_wrong_keys_count_for_the_client_behind_a_trusted_proxy() -> None:
    async with behind_a_proxy(trusted=["127.0.0.0/8"], api_key="s3cret", max_auth_failures=3) as proxy:
        statuses = [(await proxy.get("192.0.2.1", f"wrong {number}")).status_code for number in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await proxy.get("192.0.2.2", "wrong")).status_code == 401
        assert (await proxy.get("192.0.2.2", "s3cret")).status_code == 200


@pytest.mark.parametrize("api_key", ["s3cret", "0123456789abcdef0123456789abcdef"])
async def test_wrong_keys_behind_an_unknown_proxy_lock_nobody_out(api_key: str) -> None:
    async with behind_a_proxy(trusted=[], api_key=api_key) as proxy:
        for number in range(30):
            with trio.move_on_after(1):
                answer = await proxy.get(f"192.0.2.{number}", f"wrong {number}")
                assert answer.status_code == (401 if number < 20 else 429)
        with trio.fail_after(5):
            assert (await proxy.get("192.0.2.99", api_key)).status_code == 200


@pytest.mark.parametrize(("trusted", "statuses"), [([], [200, 429, 429]), (["127.0.0.1"], [200, 429, 200])])
async def test_rate_limit_counts_the_client_of_a_trusted_proxy(trusted: list[str], statuses: list[int]) -> None:
    async with behind_a_proxy(trusted=trusted, rate_limit="1/min") as proxy:
        found = []
        for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            answer = await proxy.node.client.post(
                "/v1/generate", json=BODIES["/v1/generate"], headers={"x-forwarded-for": client}
            )
            found.append(answer.status_code)
        assert found == statuses


async def test_forged_forwarded_host_does_not_serve_a_rebound_name() -> None:
    async with behind_a_proxy(trusted=["127.0.0.1"], allowed_hosts=("llm.example.com",)) as proxy:
        for host, forwarded, status in (
            ("evil.example", "localhost", 403),
            ("127.0.0.1:8000", "evil.example", 403),
            ("127.0.0.1:8000", "llm.example.com", 200),
        ):
            headers = {"host": host, "x-forwarded-host": forwarded}
            assert (await proxy.node.client.get("/v1/models", headers=headers)).status_code == status


async def test_page_of_the_proxys_host_is_no_foreign_page() -> None:
    async with behind_a_proxy(trusted=["127.0.0.1"], allowed_hosts=("llm.example.com",)) as proxy:
        headers = {"host": "127.0.0.1:8000", "x-forwarded-host": "llm.example.com"}
        for origin, status in (("https://llm.example.com", 200), ("https://evil.example", 403)):
            answer = await proxy.node.client.post(
                "/v1/generate", json=BODIES["/v1/generate"], headers={**headers, "origin": origin}
            )
            assert answer.status_code == status


async def test_open_requests_of_one_client_behind_a_proxy_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients of a proxy share its connections, so that connections cannot bound them."""
    monkeypatch.setattr("llmactors.gateway.client_rules.MAX_OPEN_REQUESTS", 2)
    async with behind_a_proxy(mock_model("step_ms=50"), trusted=["127.0.0.1"]) as proxy, trio.open_nursery() as nursery:

        async def hold() -> None:
            body = {"prompt": "p", "max_tokens": 1000}
            await proxy.node.client.post("/v1/generate", json=body, headers={"x-forwarded-for": "192.0.2.1"})

        for _ in range(2):
            nursery.start_soon(hold)
        await wait_until(lambda: "2 running" in repr(proxy.node.node.ledger))
        refused = await proxy.get("192.0.2.1")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await proxy.get("192.0.2.1", path="/readyz")).status_code == 200
        assert (await proxy.get("192.0.2.2")).status_code == 200
        nursery.cancel_scope.cancel(reason="the test is over")
