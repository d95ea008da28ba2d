"""A whole node in front of upstreams."""

import random
import re
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
import trio

from llmactors.backends.build import ServedModel
from llmactors.backends.openai import Balance, OpenAIBackend, OpenAISettings
from llmactors.testing.node import LocalNode, NodeProcess, local_node, wait_until
from tests.support.faulty_upstream import WORDS, Hit, good, upstream

pytestmark = pytest.mark.integration


def remote(url: str, options: str = "") -> ServedModel:
    settings = OpenAISettings.parse(f"{url},wait_s=1,{options}", name="mock")
    return ServedModel("gpt", lambda: OpenAIBackend(settings, rng=random.Random(1)))


def streamed(node: LocalNode) -> AbstractAsyncContextManager[httpx.Response]:
    return node.client.stream("POST", "/v1/generate", json={"prompt": "hi", "stream": True})


async def cut_after_two(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await hit.stream.aclose()


async def never_ends(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await hit.wait_closed()


async def test_answer_comes_through_the_gateway() -> None:
    async with upstream(good) as server, local_node(remote(server.url)) as node:
        answer = (await node.client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 4})).json()
    assert (answer["text"], answer["finish_reason"]) == ("".join(WORDS), "length")
    usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11, "cached_tokens": 0}
    assert answer["usage"] == usage


async def test_interrupted_stream_ends_with_an_error() -> None:
    async with upstream(cut_after_two, good) as server, local_node(remote(server.url)) as node:
        answer = await node.client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 4, "stream": True})
        assert "INTERRUPTED" in answer.text
        assert "event: done" not in answer.text
        assert (await node.client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 4})).status_code == 200
        assert node.incarnations()["node/serving/backends/gpt"] == 1


async def test_metrics_show_which_upstreams_get_requests() -> None:
    """An upstream of two models is down where one of them has its circuit open."""
    async with upstream(good) as server:
        settings = OpenAISettings.parse(f"{server.url},model=a|http://127.0.0.1:1/v1,model=a")
        whole, broken = Balance.of(settings.upstreams), Balance.of(settings.upstreams)
        models = [
            ServedModel("one", lambda: OpenAIBackend(settings, broken)),
            ServedModel("two", lambda: OpenAIBackend(settings, whole)),
        ]
        async with local_node(*models) as node:

            async def states() -> list[str]:
                lines = (await node.client.get("/metrics")).text.splitlines()
                return [line for line in lines if line.startswith("llmactors_upstream_up")]

            up = [f'llmactors_upstream_up{{upstream="{each.url}"}} 1.0' for each in settings.upstreams]
            assert await states() == up
            for _ in range(3):
                broken.circuits[1].fail(trio.current_time(), random.Random(1))
            assert await states() == [up[0], up[1].replace(" 1.0", " 0.0")]


async def test_cancel_reaches_the_upstream() -> None:
    async with upstream(never_ends) as server, local_node(remote(server.url)) as node, streamed(node) as stream:
        await wait_until(lambda: bool(server.hits))
        await node.client.delete(f"/v1/streams/{stream.headers['x-request-id']}")
        with trio.fail_after(20):
            await server.hits[0].closed_by_peer.wait()
        await stream.aread()


async def test_backend_crash_repeats_no_request() -> None:
    async with (
        upstream(never_ends, good) as server,
        local_node(remote(server.url, "continue=none")) as node,
        streamed(node) as stream,
    ):
        await wait_until(lambda: bool(server.hits))
        await trio.sleep(0.1)
        node.crash("node/serving/backends/gpt")
        text = (await stream.aread()).decode()
    assert "INTERRUPTED" in text
    assert len(server.hits) == 1


async def test_command_line_serves_an_upstream() -> None:
    async with upstream(good) as server:
        model = f"gpt=openai:{server.url},model=far,key_env=UPSTREAM_TEST_KEY"
        process = NodeProcess("--model", model, "--bind", "127.0.0.1:0", environ={"UPSTREAM_TEST_KEY": "sesame"})
        with process:
            url = await trio.to_thread.run_sync(process.wait_ready)
            async with httpx.AsyncClient(timeout=20) as client:
                answer = (await client.post(f"{url}/v1/generate", json={"prompt": "hi", "max_tokens": 4})).json()
    assert answer["text"] == "".join(WORDS)
    assert (server.hits[0].body["model"], server.hits[0].headers["authorization"]) == ("far", "Bearer sesame")
    assert "sesame" not in process._arguments[1]


CHAT = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
CALLS = {
    "/v1/generate": {"model": "gpt", "prompt": "hi", "max_tokens": 4},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "gpt", "prompt": "hi", "max_tokens": 4},
    "/v1/responses": {"model": "gpt", "input": "hi", "max_output_tokens": 16},
    "/v1/messages": CHAT,
}


async def test_answers_name_the_model_that_answered() -> None:
    """On every route: what a client asks for is a route, and the upstream behind it may have another model."""

    async def fails(hit: Hit) -> None:
        await hit.refuse(503)

    async with upstream(fails) as first, upstream(good) as second:
        url = f"{first.url},model=large|{second.url},model=small,priority=1"
        async with local_node(remote(url)) as node:
            for path, body in CALLS.items():
                answer = await node.client.post(path, json=body)
                assert (answer.status_code, answer.json()["model"]) == (200, "small"), path
                if path == "/v1/generate":
                    continue  # its events name no model
                text = (await node.client.post(path, json=body | {"stream": True})).text
                named = re.findall(r'"model":"(\w+)"', text)
                asked = ["gpt"] if path == "/v1/responses" else []  # its first event comes before the answer
                assert named == asked + ["small"] * (len(named) - len(asked)) != asked, path


async def test_upstream_that_refuses_the_key_is_not_ready() -> None:
    """Without any request. The model is ready again when the upstream takes the key."""
    async with upstream(good) as server, local_node(remote(server.url)) as node:
        assert (await node.client.get("/readyz")).status_code == 200
        server.models_status = 401
        await wait_until(lambda: bool(node.node.directory.problems()), within_s=10)
        answer = await node.client.get("/readyz")
        assert answer.status_code == 503
        assert "refuses the key" in answer.text
        server.models_status = 200
        await node.wait_ready(within_s=10)
