"""Details of the wire that clients and proxies stumbled over."""

import gzip
import json
from typing import Any

import pytest
import trio

from llmactors.testing.node import LocalNode, local_node

pytestmark = pytest.mark.integration

KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
CHAT: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


async def handshake(node: LocalNode, headers: bytes) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
        await stream.send_all(b"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\n" + KEY + headers + b"\r\n")
        with trio.fail_after(5):
            return bytes(await stream.receive_some(4096))


@pytest.mark.parametrize(
    "headers",
    [
        b"connection: keep-alive\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
        b"connection: upgrade\r\nconnection: keep-alive\r\nupgrade: websocket\r\n",
        b"connection: Keep-Alive, Upgrade\r\nupgrade: WebSocket\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: caf\xe9, x\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: a\r\nsec-websocket-protocol: b\r\n",
    ],
)
async def test_handshake_with_unusual_headers_is_accepted(headers: bytes) -> None:
    async with local_node() as node:
        assert (await handshake(node, headers)).startswith(b"HTTP/1.1 101 ")


async def test_handshake_of_another_version_is_told_the_right_one() -> None:
    async with local_node() as node, await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
        head = b"GET /v1/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        await stream.send_all(head + KEY.replace(b"13", b"8") + b"\r\n")
        answer = bytes(await stream.receive_some(4096))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"sec-websocket-version: 13\r\n" in answer


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_client_that_ends_its_sending_side_gets_its_answer(version: bytes) -> None:
    about = b" HTTP/%b\r\nhost: 127.0.0.1\r\n" % version
    async with local_node() as node:
        for path in (b"/livez", b"/v1/models", b"/metrics"):
            request = b"GET " + path + about + b"\r\n"
            async with await trio.open_tcp_stream("127.0.0.1", node.port) as stream:
                await stream.send_all(request)
                await stream.send_eof()
                with trio.fail_after(5):
                    answer = b"".join([part async for part in stream])
                assert answer.startswith(b"HTTP/1.1 200 "), request
                assert answer.endswith((b"}", b"0\r\n\r\n", b"\n")), request


async def test_compressed_body_is_refused_clearly() -> None:
    async with local_node() as node:
        data = gzip.compress(json.dumps({"prompt": "p"}).encode())
        answer = await node.client.post("/v1/generate", content=data, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_ENCODING")


async def test_byte_order_mark_before_the_body_is_ignored() -> None:
    async with local_node() as node:
        data = b"\xef\xbb\xbf" + json.dumps({"prompt": "p", "max_tokens": 1}).encode()
        assert (await node.client.post("/v1/generate", content=data)).status_code == 200


async def test_empty_answers_at_the_end_of_a_chat_are_left_out() -> None:
    async with local_node() as node:
        texts = set()
        for extra in ([], [{"role": "assistant", "content": ""}], [{"role": "assistant", "content": None}] * 2):
            answer = await node.client.post(
                "/v1/chat/completions", json={**CHAT, "messages": [*CHAT["messages"], *extra]}
            )
            texts.add(answer.json()["choices"][0]["message"]["content"])
        assert len(texts) == 1


async def test_answers_are_not_to_be_stored_by_caches() -> None:
    async with local_node() as node:
        for method, path, body in (
            ("GET", "/v1/models", None),
            ("POST", "/v1/generate", {"prompt": "p", "max_tokens": 1}),
            ("POST", "/v1/chat/completions", CHAT),
            ("GET", "/v1/streams/none", None),
        ):
            answer = await node.client.request(method, path, json=body)
            assert answer.headers["cache-control"] == "no-store", path


async def test_native_stream_tells_browsers_when_to_reconnect() -> None:
    async with local_node() as node:
        body = {"prompt": "p", "max_tokens": 3, "stream": True}
        answer = await node.client.post("/v1/generate", json=body)
        assert answer.text.startswith("retry: 1000\n\nid: 1\n")
        assert answer.text.count("retry:") == 1


async def test_health_path_of_vllm_is_served() -> None:
    async with local_node(api_key="s3cret") as node:
        assert (await node.client.get("/health")).status_code == 200


async def test_models_have_a_time_of_creation() -> None:
    async with local_node() as node:
        [model] = (await node.client.get("/v1/models")).json()["data"]
        assert model["created"] > 1_700_000_000
