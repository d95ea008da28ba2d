"""Every bad request gets a clear JSON error, and the node serves the next request."""

import functools
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import httpx
import pytest
import trio

from llmactors.gateway.settings import GatewaySettings
from llmactors.testing.node import LocalNode, local_node, mock_model
from tests.support.raw_http import RawExchange, read_to_end
from tests.support.streams import read_stream

pytestmark = pytest.mark.integration

NothingLeft = Callable[[LocalNode], AbstractAsyncContextManager[None]]


@attrs.frozen
class Bad:
    """A bad request and the error that must answer it."""

    status: int
    code: str
    message: str
    """A part of the error message."""
    method: str = "POST"
    path: str = "/v1/generate"
    body: Any = None
    """The body of the request: bytes are sent unchanged, anything else as JSON."""
    headers: dict[str, str] = attrs.field(factory=dict)


TABLE = [
    Bad(400, "INVALID_REQUEST", "the body is empty", body=b""),
    Bad(400, "INVALID_REQUEST", "not valid JSON", body=b"prompt=hello"),
    Bad(400, "INVALID_REQUEST", "not valid JSON", body=b'{"prompt": "cut off'),
    Bad(400, "INVALID_REQUEST", "not valid UTF-8", body=b'{"prompt": "\xff\xfe"}'),
    Bad(400, "INVALID_REQUEST", "nested too deeply", body=b"[" * 50_000),
    Bad(400, "INVALID_REQUEST", "must be a JSON object, not a list", body=["prompt"]),
    Bad(400, "INVALID_REQUEST", "missing required field `prompt`", body={}),
    Bad(400, "INVALID_REQUEST", "`prompt`: Expected `str`", body={"prompt": 5}),
    Bad(400, "INVALID_REQUEST", "`prompt`: Expected `str` of length >= 1", body={"prompt": ""}),
    Bad(400, "INVALID_REQUEST", "`max_tokens`: Expected `int` >= 1", body={"prompt": "p", "max_tokens": 0}),
    Bad(400, "INVALID_REQUEST", "leaves no room for a prompt", body={"prompt": "p", "max_tokens": 100}),
    Bad(400, "CONTEXT_EXCEEDED", "do not fit", body={"prompt": "p " * 90, "max_tokens": 20}),
    Bad(400, "INVALID_REQUEST", "`stream`: Expected `bool`", body={"prompt": "p", "stream": "yes"}),
    Bad(400, "INVALID_REQUEST", "unknown field `maxtokens`", body={"prompt": "p", "maxtokens": 3}),
    Bad(404, "NOT_FOUND", "this node serves: mock", body={"prompt": "p", "model": "gpt-5"}),
    Bad(413, "TOO_LARGE", "the prompt has 300000 characters", body={"prompt": "p" * 300_000}),
    Bad(413, "TOO_LARGE", "the body has 1048577 bytes", body=b" " * (1024 * 1024 + 1)),
    Bad(404, "NOT_FOUND", "no such stream", "GET", "/v1/streams/req_nothing"),
    Bad(404, "NOT_FOUND", "no such stream", "GET", "/v1/streams/"),
    Bad(404, "NOT_FOUND", "no such stream", "GET", "/v1/streams/../../etc/passwd"),
    Bad(404, "NOT_FOUND", "no such stream", "DELETE", "/v1/streams/req_nothing"),
    Bad(404, "NOT_FOUND", "no such stream", "GET", "/v1/streams/%00%ff%0a"),
    Bad(400, "INVALID_REQUEST", "a whole number", "GET", "/v1/streams/x", headers={"Last-Event-ID": "abc"}),
    Bad(400, "INVALID_REQUEST", "a whole number", "GET", "/v1/streams/x", headers={"Last-Event-ID": "-1"}),
    Bad(400, "INVALID_REQUEST", "a whole number", "GET", "/v1/streams/x", headers={"Last-Event-ID": "\u00b2"}),
    Bad(400, "INVALID_REQUEST", "a whole number", "GET", f"/v1/streams/x?after={'9' * 5000}"),
    Bad(400, "INVALID_REQUEST", "a whole number", "GET", "/v1/streams/x?after=1.5"),
    Bad(400, "INVALID_REQUEST", "unknown query parameter `since`", "GET", "/v1/streams/x?since=1"),
    Bad(404, "NOT_FOUND", "no such route", "GET", "/nothing"),
    Bad(404, "NOT_FOUND", "no such route", "POST", "//v1/generate", body={"prompt": "p"}),
    Bad(404, "NOT_FOUND", "no such route", "GET", "/livez/"),
    Bad(400, "INVALID_REQUEST", "is a WebSocket", "GET", "/v1/ws"),
]


@attrs.frozen
class Answer:
    """The answer of the node."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    node: LocalNode, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """Sends one request on a new connection. httpx would normalize the target; this function sends it unchanged."""
    lines = {"host": "localhost", "content-length": str(len(body)), "connection": "close", **(headers or {})}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
        await stream.send_all(head.encode("latin-1") + b"\r\n" + body)
        answer = await read_to_end(stream)
    top, _, rest = answer.partition(b"\r\n\r\n")
    first, *others = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in others)
    return Answer(int(first.split()[1]), {name: value for name, _, value in pairs}, rest)


def assert_error(answer: Answer, bad: Bad) -> None:
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (bad.status, bad.code), bad
    assert bad.message in error["message"], bad
    assert error["request_id"] == answer.headers["x-request-id"], bad
    assert answer.headers["content-type"] == "application/json", bad
    assert set(error) == {"code", "message", "request_id"}, bad


async def test_bad_requests_get_clear_errors(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("context=100")) as node, nothing_left(node):
        for bad in TABLE:
            body = (
                bad.body if isinstance(bad.body, bytes) else b"" if bad.body is None else json.dumps(bad.body).encode()
            )
            assert_error(await ask(node, bad.method, bad.path, body, bad.headers), bad)


ROUTES = {
    "/v1/generate": {"POST", "OPTIONS"},
    "/v1/streams/req_x": {"GET", "DELETE", "OPTIONS"},
    "/v1/ws": {"GET", "OPTIONS"},
    "/v1/ws/tickets": {"POST", "OPTIONS"},
    "/livez": {"GET", "HEAD", "OPTIONS"},
    "/readyz": {"GET", "HEAD", "OPTIONS"},
    "/healthz": {"GET", "HEAD", "OPTIONS"},
    "/metrics": {"GET", "HEAD", "OPTIONS"},
    "/v1/tree": {"GET", "HEAD", "OPTIONS"},
}


async def test_wrong_method_is_405_with_allow_header(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for path, allowed in ROUTES.items():
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
                if method in allowed:
                    continue
                answer = await ask(node, method, path, b"x" if method == "PUT" else b"")

                assert answer.status == 405, (method, path)
                assert set(answer.headers["allow"].split(", ")) == allowed, (method, path)
                if method == "HEAD":
                    assert answer.body == b""
                else:
                    assert_error(answer, Bad(405, "METHOD_NOT_ALLOWED", "use "))


async def test_options_says_what_is_allowed_on_every_route() -> None:
    async with local_node() as node:
        for path, allowed in ROUTES.items():
            response = await node.client.options(path)
            assert (response.status_code, set(response.headers["allow"].split(", "))) == (200, allowed), path
            assert response.content == b""
        assert (await node.client.options("/v1/nothing")).status_code == 404


async def test_head_has_the_head_of_get_without_the_body() -> None:
    async with local_node() as node:
        for path in ("/livez", "/healthz", "/v1/tree", "/v1/models", "/v1/models/mock", "/openapi.json"):
            answer = await ask(node, "HEAD", path)
            assert (answer.status, answer.body) == (200, b""), path
            assert int(answer.headers["content-length"]) > 0, path
            assert answer.headers["content-type"] == "application/json", path


async def test_unknown_route_below_v1_has_openais_error() -> None:
    async with local_node() as node:
        for method, path in (("GET", "/v1/nothing"), ("GET", "/v1//tree"), ("POST", "/v1/generate/"), ("PUT", "/v1/")):
            answer = await ask(node, method, path)
            error = json.loads(answer.body)["error"]
            assert answer.status == 404, path
            assert (error["type"], error["code"]) == ("not_found_error", "not_found"), path
            assert "no such route" in error["message"]
            assert answer.headers["x-request-id"].startswith("req_")


OPEN = ("/", "/livez", "/readyz", "/healthz", "/metrics")
CLOSED = (
    "/v1/generate",
    "/v1/tree",
    "/v1/streams/req_x",
    "/v1/ws",
    "/nothing",
    "//v1//tree",
    "/livez/../v1/tree",
    "/%6civez/",
)


async def test_all_routes_but_the_open_ones_need_a_key(nothing_left: NothingLeft) -> None:
    async with local_node(api_key="s3cret", max_auth_failures=0) as node:
        node.client.headers["x-api-key"] = "s3cret"
        async with nothing_left(node):
            for headers in ({}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}):
                for path in CLOSED:
                    for method in ("GET", "DELETE", "POST"):
                        answer = await ask(node, method, path, b'{"prompt": "p"}' * (method == "POST"), headers)
                        assert_error(answer, Bad(401, "UNAUTHENTICATED", "key"))
                        assert answer.headers["www-authenticate"] == "Bearer"
                for path in OPEN:
                    assert (await ask(node, "GET", path, headers=headers)).status == 200
        assert (await node.client.get("/v1/tree")).status_code == 200
        bearer = {"authorization": "bearer s3cret"}
        async with httpx.AsyncClient(base_url=node.url, headers=bearer) as client:
            assert (await client.post("/v1/generate", json={"prompt": "p", "max_tokens": 1})).status_code == 200


async def test_rate_limited_request_gets_retry_after() -> None:
    async with local_node(rate_limit="1/h") as node:
        assert (await node.client.post("/v1/generate", json={"prompt": "p", "max_tokens": 1})).status_code == 200
        answer = await ask(node, "POST", "/v1/generate", b'{"prompt": "p"}')

        assert_error(answer, Bad(429, "RATE_LIMITED", "rate limit reached: requests per 3600 s: limit 1, remaining 0"))
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
        assert answer.headers["x-ratelimit-limit-requests"] == "1"


async def test_backend_refusal_is_reported_in_json_and_stream() -> None:
    async with local_node(mock_model("refuse=forbidden")) as node:
        body = {"prompt": "a forbidden word"}
        answer = await ask(node, "POST", "/v1/generate", json.dumps(body).encode())
        assert_error(answer, Bad(502, "BACKEND_FAILED", "refuse"))

        record = await read_stream(node.url, body)
        assert record.end is not None
        assert (record.end_event, record.end["error"]["code"]) == ("error", "BACKEND_FAILED")


async def test_huge_content_length_is_refused_before_the_body(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for path in ("/v1/generate", "/v1/tree", "/v1/nothing"):
            stream = await trio.open_tcp_stream("127.0.0.1", node.port)
            async with stream:
                head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n"
                await stream.send_all(head.encode())
                answer = await read_to_end(stream)

            assert answer.startswith({"/v1/generate": b"HTTP/1.1 413"}.get(path, b"HTTP/1.1 4")), answer
            assert b"connection: close" in answer
            assert b'"error"' in answer


@pytest.mark.parametrize("framing", ["chunked", "declared"])
async def test_client_reads_the_error_after_a_huge_body_is_cut(framing: str, nothing_left: NothingLeft) -> None:
    """The client sends its whole body before it reads, as most clients do."""
    chunk = b"x" * 10_000
    length = "transfer-encoding: chunked" if framing == "chunked" else "content-length: 3000000"
    async with local_node(max_body_bytes=100_000) as node, nothing_left(node):
        for path, status in (("/v1/generate", 413), ("/v1/tree", 405), ("/v1/nothing", 404), ("/livez", 405)):
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
                await stream.send_all(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n".encode())
                for _ in range(300):
                    await stream.send_all(b"%x\r\n%b\r\n" % (len(chunk), chunk) if framing == "chunked" else chunk)
                if framing == "chunked":
                    await stream.send_all(b"0\r\n\r\n")
                answer = await read_to_end(stream)

            assert answer.startswith(b"HTTP/1.1 %d " % status), path
            assert b'"error"' in answer, path


async def test_unexpected_body_is_ignored(nothing_left: NothingLeft) -> None:
    async with local_node() as node, nothing_left(node):
        for path in ("/v1/streams/req_x", "/v1/generate", "/livez"):
            for method in ("GET", "DELETE", "PUT"):
                response = await node.client.request(method, path, content=b"x" * 2_000_000)
                assert response.status_code in {200, 404, 405}, (path, method)


async def test_endless_body_beside_a_running_stream_does_no_harm(nothing_left: NothingLeft) -> None:
    async with local_node(mock_model("step_ms=5"), resume_grace_s=0.1) as node, nothing_left(node):
        first = await RawExchange.open(node.url, "POST", "/v1/generate", body={"prompt": "p", "stream": True})
        async with first:
            await first.read()
            stream = await trio.open_tcp_stream("127.0.0.1", node.port)
            async with stream:
                path = f"/v1/streams/{first.headers['x-request-id']}"
                head = f"GET {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
                await stream.send_all(head.encode())
                for _ in range(300):
                    await stream.send_all(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                answer = await read_to_end(stream)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b"event: done" in answer


async def test_body_slower_than_the_limit_is_408(monkeypatch: pytest.MonkeyPatch, nothing_left: NothingLeft) -> None:
    monkeypatch.setattr(
        "llmactors.system.gateway_actors.GatewaySettings", functools.partial(GatewaySettings, body_s=0.1)
    )
    async with local_node() as node, nothing_left(node):
        stream = await trio.open_tcp_stream("127.0.0.1", node.port)
        async with stream:
            await stream.send_all(b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            answer = await read_to_end(stream)

        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"REQUEST_TIMEOUT"' in answer
