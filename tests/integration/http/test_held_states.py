"""Everything else that a connection can be in when its gateway dies: other routes, refusals, waits, limits, drains."""

import json
import os
import re
from collections.abc import AsyncIterator
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from llmactors.backends.directory import ModelState, ModelStatus
from llmactors.errors import Unavailable
from llmactors.gateway.request_service import RequestService
from llmactors.http.connection import ConnectionSettings
from llmactors.http.connection_limits import Capacity
from llmactors.http.exchange import Exchange
from llmactors.http.held_server import HeldServer
from llmactors.http.keeper_link import GivenConnection
from llmactors.http.server import ServerSettings
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.held_answers import ANSWER_S, answers, chosen, die_at_each, request
from tests.support.held_lives import NEVER, Lives, lives_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the keeper needs Linux"),
    pytest.mark.timeout(300),
]

PROMPT = {"prompt": "rivers", "max_tokens": 7}


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=1,slots=8")) as found:
        await found.wait_ready()
        yield found


def plain_request(method: str, path: str, headers: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n".encode()


@pytest.mark.keeper
@pytest.mark.parametrize(
    "sent",
    [
        plain_request("GET", "/"),
        plain_request("GET", "/openapi.json"),
        plain_request("HEAD", "/livez"),
        plain_request("GET", "/v1/models", "connection: close\r\n"),
        plain_request("OPTIONS", "/v1/models"),
        request("/v1/embeddings", {"model": "mock", "input": ["a", "b", "c"]}),
        request("/v1/embeddings", {"model": "mock", "input": ["a"] * 80, "encoding_format": "base64"}),
        request("/v1/messages/count_tokens", {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}),
        request("/v1/responses", {"model": "mock", "input": "rivers", "background": True, "stream": True}),
        request("/v1/generate", {**PROMPT, "stream": True}, "connection: close\r\n"),
        request("/v1/generate", PROMPT, "idempotency-key: same\r\n"),
        request("/v1/generate", {**PROMPT, "stream": True}, "idempotency-key: same stream\r\n"),
    ],
    ids=lambda sent: " ".join(sent.decode().split()[:2]),
)
async def test_death_changes_no_byte(sent: bytes, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lives_of(node.node, monkeypatch) as lives:
        assert await die_at_each(lives, sent)


@pytest.mark.keeper
@pytest.mark.parametrize(
    "sent",
    [
        plain_request("GET", "/metrics"),
        plain_request("GET", "/v1/tree"),
        plain_request("GET", "/v1/operator/history"),
        plain_request("GET", "/v1/operator/requests"),
        request("/v1/responses", {"model": "mock", "input": "rivers", "background": True}),
        request("/v1/ws/tickets", {}),
    ],
    ids=lambda sent: " ".join(sent.decode().split()[:2]),
)
async def test_answer_of_a_moment_is_whole(sent: bytes, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are never the same twice."""
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            [first] = await answers(stream, sent)
        for die_at in chosen([*lives.points]):
            async with lives.client(die_at) as stream:
                [found] = await answers(stream, sent)
            assert found.split(b" ")[0] == first.split(b" ")[0] == b"200"
            assert not lives.cut


@pytest.mark.keeper
@pytest.mark.parametrize("how", ["read", "stream", "items", "follow up", "cancel", "delete"])
async def test_death_around_stored_responses(how: str, node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lives_of(node.node, monkeypatch) as lives:

        async def sent() -> bytes:
            answer = await node.client.post(
                "/v1/responses", json={"model": "mock", "input": "a", "max_output_tokens": 20}
            )
            name = answer.json()["id"]
            return {
                "read": plain_request("GET", f"/v1/responses/{name}"),
                "stream": plain_request("GET", f"/v1/responses/{name}?stream=true"),
                "items": plain_request("GET", f"/v1/responses/{name}/input_items"),
                "follow up": request(
                    "/v1/responses",
                    {
                        "model": "mock",
                        "input": "b",
                        "previous_response_id": name,
                        "stream": True,
                        "max_output_tokens": 20,
                    },
                ),
                "cancel": request(f"/v1/responses/{name}/cancel", {}),
                "delete": plain_request("DELETE", f"/v1/responses/{name}"),
            }[how]

        async with lives.client() as stream:
            [expected] = await answers(stream, await sent())
        assert expected.startswith(b"200 ")
        for die_at in chosen([*lives.points]):
            async with lives.client(die_at) as stream:
                [found] = await answers(stream, await sent())
            assert not lives.cut
            assert found == expected, f"other bytes behind a death at step {die_at}"


async def test_death_around_the_cancel_of_a_stream(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says that the stream was running, also where an earlier gateway has ended the stream."""
    long = {"prompt": "rivers", "max_tokens": 5000, "stream": True}
    async with lives_of(node.node, monkeypatch) as lives:
        for die_at in (NEVER, ("before cancel", 1), ("behind cancel", 1)):
            async with (
                node.client.stream("POST", "/v1/generate", json=long) as running,
                lives.client(die_at) as stream,
            ):
                name = running.headers["x-request-id"]
                [found] = await answers(stream, plain_request("DELETE", f"/v1/streams/{name}"))
            assert found.startswith(b"200 ")
            assert found.endswith(b'"cancelled":true}')
        assert lives.takeovers == 2


@pytest.mark.parametrize(("refers", "is_stream"), [("to the response before", True), ("to its items", False)])
async def test_response_that_an_answer_refers_to_may_go(
    refers: str, is_stream: bool, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer goes on at the next gateway also where what its request refers to was deleted meanwhile."""
    body: dict[str, object] = {"model": "mock", "input": "rivers", "max_output_tokens": 60}
    async with lives_of(node.node, monkeypatch) as lives:
        found = []
        for dies in (False, True):
            before = (await node.client.post("/v1/responses", json=body)).json()
            if refers == "to its items":
                items = [{"type": "item_reference", "id": item["id"]} for item in before["output"]]
                more: dict[str, object] = {"input": [*items, {"role": "user", "content": "go on"}]}
            else:
                more = {"previous_response_id": before["id"]}
            async with lives.client() as stream, trio.open_nursery() as nursery:

                async def delete(name: str, *, dies: bool) -> None:
                    await wait_until(lambda: "behind admission" in lives.points)
                    await node.client.delete(f"/v1/responses/{name}")
                    if dies:
                        lives.life.die()

                nursery.start_soon(partial(delete, before["id"], dies=dies))
                sent = request("/v1/responses", {**body, **more, "stream": is_stream})
                found += await answers(stream, sent)
            assert not lives.cut
        assert lives.takeovers == 1
        assert found[1] == found[0]
        assert found[0].startswith(b"200 ")


async def test_images_were_accepted_where_their_model_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next gateway knows no model that takes images, and so no body of this length."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    body = {"model": "mock", "messages": [{"role": "user", "content": [image]}], "max_tokens": 60}
    async with (
        local_node(mock_model("step_ms=1,images=true"), max_body_bytes=20_000) as node,
        lives_of(node.node, monkeypatch) as lives,
    ):
        await node.wait_ready()
        async with lives.client() as stream, trio.open_nursery() as nursery:

            async def forget_and_die() -> None:
                await wait_until(lambda: "behind admission" in lives.points)
                node.node.directory.put("mock", ModelStatus())
                lives.life.die()

            nursery.start_soon(forget_and_die)
            [found] = await answers(stream, request("/v1/chat/completions", body))
        assert found.startswith(b"200 ")
        assert lives.takeovers == 1


@pytest.mark.keeper
@pytest.mark.parametrize("chunked", [False, True])
async def test_death_amid_a_large_body(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "river " * 20_000}]}).encode()
    head = b"POST /v1/messages/count_tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    pieces = [body[at : at + 9000] for at in range(0, len(body), 9000)]
    if chunked:
        sent = head + b"transfer-encoding: chunked\r\n\r\n"
        sent += b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        sent = head + b"content-length: %d\r\n\r\n" % len(body) + body
    async with local_node(mock_model("context=100000")) as node, lives_of(node.node, monkeypatch) as lives:
        await node.wait_ready()
        assert await die_at_each(lives, sent)


@pytest.mark.keeper
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/completions"])
async def test_death_amid_a_refusal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """429, to a client that reads slowly. The times in the answer are those of the gateway that made it."""
    sent = request(path, {"model": "mock", **PROMPT})
    async with (
        local_node(mock_model(), rate_limit="1/100000s") as node,
        lives_of(node.node, monkeypatch) as lives,
    ):
        await node.wait_ready()
        await node.client.post(path, json={"model": "mock", **PROMPT})
        lives.most_sent = 50
        async with lives.client() as stream:
            await answers(stream, sent)
        for die_at in chosen([*lives.points]):
            async with lives.client(die_at, SO_RCVBUF=2304) as stream:
                [found] = await answers(stream, sent)
            assert found.startswith(b"429 ")
            assert b"error" in found
            assert not lives.cut


@pytest.mark.keeper
@pytest.mark.parametrize("path", ["/v1/generate", "/v1/completions", "/v1/responses"])
async def test_death_amid_the_wait_for_a_slot(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told its place in the queue, and gets keep-alives."""
    async with (
        local_node(mock_model("step_ms=5,slots=1"), keep_alive_s=0.05) as node,
        lives_of(node.node, monkeypatch) as lives,
    ):
        await node.wait_ready()
        body: dict[str, object] = {"model": "mock", "prompt": "rivers", "max_tokens": 16, "stream": True}
        if path == "/v1/responses":
            body = {"model": "mock", "input": "rivers", "max_output_tokens": 16, "stream": True}
        async with lives.client() as stream:
            [expected] = await answers(stream, request(path, body))

        def text(answer: bytes) -> bytes:
            """The text in the order of the log, without the places in the queue and the keep-alives."""
            assert len(re.findall(rb'"finish_reason":"|response.completed|response.incomplete', answer)) >= 1
            return b"".join(re.findall(rb'"(?:text|delta)":"([^"]*)"', answer))

        for wait_s in (0.0, 0.02, 0.1, 0.2, 0.3):
            async with trio.open_nursery() as nursery:
                blocker: dict[str, object] = {"prompt": "first", "max_tokens": 60, "stream": True}
                nursery.start_soon(ask, node, blocker)
                await trio.sleep(0.03)
                async with lives.client() as stream:
                    nursery.start_soon(die_after, lives, wait_s)
                    [found] = await answers(stream, request(path, body))
            assert not lives.cut
            assert text(found) == text(expected)


async def ask(node: LocalNode, body: dict[str, object]) -> None:
    await node.client.post("/v1/generate", json=body)


async def die_after(lives: Lives, seconds: float) -> None:
    await trio.sleep(seconds)
    lives.life.die()


async def test_drain_lets_a_taken_over_answer_end(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that drains, or that an operator has drained, refuses new requests and no accepted ones."""

    def refuse(_service: RequestService) -> None:
        raise Unavailable("this node is shutting down")

    body = {"prompt": "rivers", "max_tokens": 200, "stream": True}
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, request("/v1/generate", body))
        async with lives.client() as stream, trio.open_nursery() as nursery:

            async def drain() -> None:
                await wait_until(lambda: lives.points.count("behind send") > 5)
                monkeypatch.setattr(RequestService, "check_takes_work", refuse)
                lives.life.die()

            nursery.start_soon(drain)
            assert await answers(stream, request("/v1/generate", body)) == expected
        assert not lives.cut


@pytest.mark.parametrize("why", ["the node drains", "the last worker has left"])
async def test_known_key_is_answered_where_no_work_is_taken(
    why: str, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with an idempotency key that was admitted, whose whole answer no gateway has begun to write."""

    def refuse(_service: RequestService) -> None:
        raise Unavailable("this node is shutting down")

    sent = request("/v1/generate", {"prompt": "rivers", "max_tokens": 100}, "idempotency-key: k\r\n")
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream, trio.open_nursery() as nursery:

            async def refuse_and_die() -> None:
                await wait_until(lambda: "behind admission" in lives.points)
                if why == "the node drains":
                    monkeypatch.setattr(RequestService, "check_takes_work", refuse)
                else:
                    status = node.node.directory.get("mock")
                    assert status is not None
                    node.node.directory.put("mock", attrs.evolve(status, state=ModelState.GONE))
                lives.life.die()

            nursery.start_soon(refuse_and_die)
            [found] = await answers(stream, sent)
        assert found.startswith(b"200 ")
        async with lives.client() as stream:
            [other] = await answers(stream, sent.replace(b"cy-key: k", b"cy-key: l"))
        assert other.startswith(b"503 ")


def drain_at_takeovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each gateway drain as soon as it is given a connection that it takes over."""
    begin_given = HeldServer._begin_given

    def begin_and_drain(server: HeldServer, nursery: trio.Nursery, given: GivenConnection) -> None:
        begin_given(server, nursery, given)
        if given.told.taken_over:
            nursery.start_soon(server.drain)

    monkeypatch.setattr(HeldServer, "_begin_given", begin_and_drain)


async def test_drain_at_a_takeover_ends_no_answer(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next gateway is told to drain before it has read again what the client asked for."""
    body = {"prompt": "rivers", "max_tokens": 100, "stream": True}
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, request("/v1/generate", body))
        drain_at_takeovers(monkeypatch)
        async with lives.client() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(die_amid_tokens, lives)
            assert await answers(stream, request("/v1/generate", body)) == expected
        assert lives.takeovers == 1


async def die_amid_tokens(lives: Lives) -> None:
    await wait_until(lambda: lives.points.count("behind send") > 5)
    lives.life.die()


@pytest.mark.parametrize("drains", [False, True])
async def test_slow_client_of_a_whole_answer_is_not_idle(
    drains: bool, node: LocalNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a recorded answer is written at the next gateway, however long its client takes, also in a drain."""
    messages = [{"role": "user", "content": "rivers"}]
    body = {"model": "mock", "messages": messages, "max_tokens": 60, "logprobs": True, "top_logprobs": 20, "n": 4}
    async with lives_of(node.node, monkeypatch) as lives:
        lives.settings = ServerSettings(connection=ConnectionSettings(idle_s=0.2))
        async with lives.client(SO_RCVBUF=2304) as stream:
            expected = await answers(stream, request("/v1/chat/completions", body))
        if drains:
            drain_at_takeovers(monkeypatch)
        async with lives.client(SO_RCVBUF=2304) as stream:
            await stream.send_all(request("/v1/chat/completions", body))
            await wait_until(lambda: "behind record" in lives.points)
            lives.life.die()
            await wait_until(lambda: lives.takeovers == 1)
            await trio.sleep(0.5)
            assert await answers(stream, b"") == expected


async def test_limit_on_connections_ends_no_taken_over_answer(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next gateway may have fewer files, or count the connections in another order."""
    body = {"prompt": "rivers", "max_tokens": 200, "stream": True}
    async with lives_of(node.node, monkeypatch) as lives:
        async with lives.client() as stream:
            expected = await answers(stream, request("/v1/generate", body))
        async with lives.client() as other, lives.client() as stream, trio.open_nursery() as nursery:
            await answers(other, plain_request("GET", "/livez"))

            async def limit() -> None:
                await wait_until(lambda: lives.points.count("behind send") > 5)
                lives.settings = ServerSettings(capacity=Capacity(most=1, of_one_address=1))
                lives.life.die()

            nursery.start_soon(limit)
            assert await answers(stream, request("/v1/generate", body)) == expected
        assert not lives.cut


async def test_takeovers_give_a_slow_head_no_more_time(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never sends a whole head holds its connection no longer, however often gateways are replaced."""
    async with lives_of(node.node, monkeypatch) as lives:
        lives.settings = ServerSettings(connection=ConnectionSettings(idle_s=1.0))
        async with lives.client() as stream, trio.open_nursery() as nursery:
            began = trio.current_time()
            await stream.send_all(request("/v1/generate", PROMPT)[:20])

            async def replace() -> None:
                while True:
                    await trio.sleep(0.3)
                    lives.life.die()

            nursery.start_soon(replace)
            with trio.fail_after(ANSWER_S):
                while await stream.receive_some():
                    pass
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 3.0


async def test_takeovers_give_a_slow_body_no_more_time(node: LocalNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_length(found: list[float], count: int) -> bool:
        return len(found) == count

    times_s: list[float] = []
    read_body = Exchange._read_body

    async def noted(exchange: Exchange, max_bytes: int, within_s: float, large_bytes: int | None) -> bytes:
        times_s.append(within_s)
        return await read_body(exchange, max_bytes, within_s, large_bytes)

    monkeypatch.setattr(Exchange, "_read_body", noted)
    async with lives_of(node.node, monkeypatch) as lives, lives.client() as stream:
        sent = request("/v1/generate", PROMPT)
        await stream.send_all(sent[:-5])
        for count in (1, 2):
            await wait_until(partial(has_length, times_s, count))
            await trio.sleep(0.3)
            lives.life.die()
        [answer] = await answers(stream, sent[-5:])
        assert answer.startswith(b"200 ")
    assert times_s[0] - 0.9 < times_s[1] < times_s[0] - 0.2
    assert times_s[2] < times_s[0] - 0.5
