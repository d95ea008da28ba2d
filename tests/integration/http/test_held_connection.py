"""Connections that outlive a gateway: a gateway dies at each step of a response, and its client sees one answer."""

import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from llmactors.http.request_id import derived_request_id
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.held_answers import ANSWER_S, answers, chosen, die_at_each, plain, request
from tests.support.held_lives import NEVER, Lives, lives_of

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux")

OFTEN = ("native", "native-whole", "chat-several", "responses")
"""The exchanges of each run of the suite. `just test-keeper` runs all of them."""
CHAT = [{"role": "user", "content": "tell me about rivers"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
TOKENS = 7
EXCHANGES: dict[str, tuple[str, dict[str, object]]] = {
    "native": ("/v1/generate", {"prompt": "rivers", "max_tokens": TOKENS, "stream": True}),
    "native-whole": ("/v1/generate", {"prompt": "rivers", "max_tokens": TOKENS}),
    "chat": ("/v1/chat/completions", {"messages": CHAT, "max_tokens": TOKENS, "stream": True}),
    "chat-usage": (
        "/v1/chat/completions",
        {"messages": CHAT, "max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "chat-several": ("/v1/chat/completions", {"messages": CHAT, "max_tokens": TOKENS, "stream": True, "n": 3}),
    "chat-whole": ("/v1/chat/completions", {"messages": CHAT, "max_tokens": TOKENS, "n": 2}),
    "chat-logprobs": (
        "/v1/chat/completions",
        {"messages": CHAT, "max_tokens": TOKENS, "stream": True, "logprobs": True, "top_logprobs": 20},
    ),
    "chat-tools": (
        "/v1/chat/completions",
        {"messages": CHAT, "max_tokens": 200, "stream": True, "tools": [TOOL], "tool_choice": "required"},
    ),
    "chat-json": (
        "/v1/chat/completions",
        {"messages": CHAT, "max_tokens": 60, "stream": True, "response_format": {"type": "json_object"}},
    ),
    "completions": ("/v1/completions", {"prompt": "rivers", "max_tokens": TOKENS, "stream": True, "stop": [" qq"]}),
    "responses": ("/v1/responses", {"input": "rivers", "max_output_tokens": TOKENS + 9, "stream": True}),
    "responses-tools": (
        "/v1/responses",
        {
            "input": "rivers",
            "max_output_tokens": 200,
            "stream": True,
            "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
            "tool_choice": "required",
        },
    ),
    "responses-whole": ("/v1/responses", {"input": "rivers", "max_output_tokens": TOKENS + 9}),
    "messages": ("/v1/messages", {"messages": CHAT, "max_tokens": TOKENS, "stream": True}),
    "messages-whole": ("/v1/messages", {"messages": CHAT, "max_tokens": TOKENS}),
    "unknown-model": ("/v1/chat/completions", {"messages": CHAT, "model": "none"}),
    "long": ("/v1/generate", {"prompt": "rivers", "max_tokens": 100, "stream": True}),
    "long-whole": ("/v1/generate", {"prompt": "rivers", "max_tokens": 400}),
}


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=1,slots=8,tool_format=hermes")) as found:
        await found.wait_ready()
        yield found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.keeper) for name in EXCHANGES]
)
async def test_death_at_each_step_changes_no_byte(name: str, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    path, body = EXCHANGES[name]
    status = b"404 " if name == "unknown-model" else b"200 "
    async with lives_of(node.node, monkeypatch) as lives:
        assert await die_at_each(lives, request(path, {"model": "mock", **body}), status=status)


async def test_death_amid_requests_of_one_connection(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests in a pipeline."""
    path, body = EXCHANGES["native"]
    sent = request(path, body) + request("/v1/generate", {"prompt": "lakes", "max_tokens": 3}) + request(path, body)
    async with lives_of(node.node, monkeypatch) as lives:
        assert await die_at_each(lives, sent, count=3)


async def test_second_death_amid_the_end_of_an_answer(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next gateway writes the rest of an answer, while it has the next request already."""
    path, body = EXCHANGES["native-whole"]
    sent = request(path, body) + request("/v1/generate", {"prompt": "lakes", "max_tokens": 3})
    async with lives_of(node.node, monkeypatch) as lives:
        lives.most_sent = 150
        async with lives.client() as stream:
            expected = await answers(stream, sent, 2)
        first = lives.points.index("behind send")
        for later in range(1, 8):
            lives.again_after = later
            async with lives.client(first + 1) as stream:
                assert await answers(stream, sent, 2) == expected, f"{later} points later"
            assert not lives.cut, f"{later} points later: {lives.cut}"


@pytest.mark.parametrize("part_bytes", [1500, pytest.param(7000, marks=pytest.mark.keeper)])
async def test_death_amid_long_and_short_requests(
    part_bytes: int, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal moves to the keeper when it gets too long for its slot, and the next one may begin there too."""
    long, short = request("/v1/generate", {"prompt": "rivers " * 900, "max_tokens": 3}), request(*EXCHANGES["native"])
    async with lives_of(node.node, monkeypatch) as lives:
        assert await die_at_each(lives, short + long + short + short, count=4, part_bytes=part_bytes)
        assert "behind message J" in lives.points


@pytest.mark.keeper
async def test_death_around_a_body_that_waits(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body comes in two chunks, after `100 Continue`."""
    body = json.dumps({"prompt": "rivers", "max_tokens": 5}).encode()
    head = b"POST /v1/generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"

    async def whole(lives: Lives, die_at: int) -> bytes:
        async with lives.client(die_at) as stream:
            await stream.send_all(head[:40])
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(head[40:])
            found = b""
            with trio.fail_after(ANSWER_S):
                while not found.endswith(b"\r\n\r\n"):
                    found += await stream.receive_some()
                for part in (body[:9], body[9:]):
                    await stream.send_all(b"%x\r\n%b\r\n" % (len(part), part))
                    await trio.testing.wait_all_tasks_blocked()
                await stream.send_all(b"0\r\n\r\n")
                while not found.endswith(b"}}"):
                    found += await stream.receive_some()
            return plain(found)

    async with lives_of(node.node, monkeypatch) as lives:
        expected = await whole(lives, NEVER)
        assert expected.startswith(b"HTTP/1.1 100")
        assert b"finish_reason" in expected
        for die_at in chosen([*lives.points]):
            assert await whole(lives, die_at) == expected, f"behind a death at step {die_at}"
            assert not lives.cut


@pytest.mark.keeper
async def test_death_with_a_client_that_sends_no_more(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client ends its side behind its request, as `nc -N` does."""

    async def whole(lives: Lives, die_at: int) -> bytes:
        async with lives.client(die_at) as stream:
            await stream.send_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await stream.send_eof()
            found = b""
            with trio.fail_after(ANSWER_S):
                while data := await stream.receive_some():
                    found += data
            return plain(re.sub(rb"openai-processing-ms: \d+", b"", found))

    async with lives_of(node.node, monkeypatch) as lives:
        expected = await whole(lives, NEVER)
        assert expected.startswith(b"HTTP/1.1 200")
        for die_at in chosen([*lives.points]):
            assert await whole(lives, die_at) == expected, f"behind a death at step {die_at}"
            assert not lives.cut


@pytest.mark.keeper
async def test_death_with_a_client_that_takes_little(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    path, body = EXCHANGES["chat-logprobs"]
    async with lives_of(node.node, monkeypatch) as lives:
        lives.most_sent = 700
        assert await die_at_each(lives, request(path, {"model": "mock", **body}), SO_RCVBUF=2304)


@pytest.mark.keeper
async def test_death_with_an_old_client(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer to HTTP/1.0 has no chunks and ends with its connection."""
    path, body = EXCHANGES["responses-tools"]
    new = request(path, {"model": "mock", **body})
    async with lives_of(node.node, monkeypatch) as lives:

        async def text(die_at: int) -> bytes:
            async with lives.client(die_at) as stream:
                await stream.send_all(new.replace(b"HTTP/1.1", b"HTTP/1.0"))
                found = b""
                with trio.fail_after(ANSWER_S):
                    while data := await stream.receive_some():
                        found += data
                return plain(found[found.index(b"event: ") :])

        async with lives.client() as stream:
            [expected] = await answers(stream, new)
        expected = plain(expected[expected.index(b"event: ") :])
        assert await text(NEVER) == expected
        for die_at in chosen([*lives.points]):
            assert await text(die_at) == expected, f"behind a death at step {die_at}"
            assert not lives.cut


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_client_that_left_between_two_lives(how: str, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody waits for any more is cancelled, though no gateway saw its client go."""
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            await stream.send_all(request("/v1/generate", {"prompt": "rivers", "max_tokens": 4000}))
            await wait_until(lambda: "behind admission" in lives.points)
            if how == "reset":
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            lives.life.die()
        found = await node.node.ledger.info(derived_request_id("t:1:0"))
        assert found.state == "ended"
        assert found.last_seq < 4000


async def test_change_of_an_operator_is_not_made_twice(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = ["before peek", "before journal", "behind journal", "before read", "behind read"]
    async with lives_of(node.node, monkeypatch) as lives, lives.client(len(reading)) as stream:
        await stream.send_all(request("/v1/operator/reload", {}))
        with contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        assert lives.points[: len(reading)] == reading
        [why] = lives.cut
        assert "is not made twice" in why


async def test_crash_of_the_server_changes_no_byte(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the gateway's actor, in a process that lives: the process ends before it can cut a connection."""
    path, body = EXCHANGES["native"]
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, request(path, {**body, "max_tokens": 200}))
        async with lives.client() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_written, lives)
            assert await answers(stream, request(path, {**body, "max_tokens": 200})) == expected
        assert lives.takeovers == 1
        assert not lives.cut


async def crash_when_written(lives: Lives) -> None:
    await wait_until(lambda: lives.points.count("behind send") > 5)
    lives.life.scope.cancel(reason="the actor crashed")
