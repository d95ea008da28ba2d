"""A whole node with a real model, over real HTTP, as `python -m llmactors` serves it."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from llmactors.backends.base import Backend
from llmactors.backends.build import ServedModel
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.messages import Finished, Usage
from llmactors.testing.node import LocalNode, local_node, wait_until
from tests.support.leaving import JSON, SOCKET, STREAM, Way
from tests.support.llama_slots import busy_slots
from tests.support.streams import StreamRecord, follow, read_stream

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.timeout(120)]

STORY = {"prompt": "Tell me a short story about a dog.", "max_tokens": 48, "temperature": 0}


@contextlib.asynccontextmanager
async def real_node(gguf: Path, **settings: Any) -> AsyncIterator[tuple[LocalNode, list[LlamaBackend]]]:
    """Runs a node with four slots; yields the node and the list of every backend that it makes."""
    made: list[LlamaBackend] = []

    def make() -> Backend:
        made.append(LlamaBackend(gguf, LlamaSettings(slots=4, context_tokens=1024)))
        return made[-1]

    async with local_node(ServedModel("smollm2-135m", make), **settings) as node:
        yield node, made


async def test_stream_and_json_have_the_same_text(gguf: Path) -> None:
    async with real_node(gguf) as (node, _):
        record = await read_stream(node.url, STORY)
        answer = (await node.client.post("/v1/generate", json=STORY, timeout=60)).json()

        assert len(record.texts) >= 30
        assert "dog" in record.text
        assert record.end is not None
        assert answer["text"] == record.text
        assert answer["model"] == "smollm2-135m"
        assert answer["usage"] == record.end["usage"]
        assert answer["usage"]["prompt_tokens"] > 10
        assert answer["usage"]["completion_tokens"] == len(record.texts)


async def test_websocket_carries_two_requests_at_once(gguf: Path) -> None:
    async with real_node(gguf) as (node, _):
        url = node.url.replace("http://", "ws://") + "/v1/ws"
        texts: dict[str, str] = {}
        order: list[str] = []
        async with trio_websocket.open_websocket_url(url) as socket:
            for ref, prompt in (("a", "Count to ten."), ("b", "Name three colours.")):
                fields = {"op": "generate", "ref": ref, "prompt": prompt, "max_tokens": 32, "temperature": 0}
                await socket.send_message(json.dumps(fields))
            names: dict[str, str] = {}
            ended = 0
            while ended < 2:
                event: dict[str, Any] = json.loads(await socket.get_message())
                match event["event"]:
                    case "accepted":
                        names[event["id"]] = event["ref"]
                    case "token":
                        texts[names[event["id"]]] = texts.get(names[event["id"]], "") + event["text"]
                        order.append(names[event["id"]])
                    case "done":
                        ended += 1

        assert set(texts) == {"a", "b"}
        assert "".join(order).strip("a").strip("b") != "", "the two answers came one after the other"


@pytest.mark.chaos
@pytest.mark.parametrize("streams", [1, 3])
async def test_answer_is_the_same_after_kill_9_of_the_model(gguf: Path, streams: int) -> None:
    async with real_node(gguf) as (node, made):
        prompts = ["Tell me a short story about a dog.", "Why is the sky blue?", "Write a poem about the sea."]
        bodies = [{**STORY, "prompt": prompt} for prompt in prompts[:streams]]
        undisturbed = [await read_stream(node.url, body) for body in bodies]
        records = [StreamRecord() for _ in bodies]

        async with trio.open_nursery() as nursery:
            for body, record in zip(bodies, records, strict=True):
                nursery.start_soon(read_stream, node.url, body, record)
            await wait_until(lambda: min(len(record.texts) for record in records) >= 10, within_s=60)
            pid = made[-1].statistics().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

        assert [record.text for record in records] == [record.text for record in undisturbed]
        assert [record.end_event for record in records] == ["done"] * streams
        assert node.incarnations()["node/serving/backends/smollm2-135m"] == 2
        assert node.incarnations()["node/http/gateway"] == 1


@pytest.mark.chaos
async def test_frozen_model_process_is_replaced(gguf: Path) -> None:
    async with real_node(gguf) as (node, made):
        undisturbed = await read_stream(node.url, STORY)
        record = StreamRecord()
        async with contextlib.aclosing(follow(node.url, STORY, record)) as events:
            async for _ in events:
                if record.last_seq == 10 and len(made) == 1:
                    pid = made[0].statistics().pid
                    assert pid is not None
                    os.kill(pid, signal.SIGSTOP)

        assert record.text == undisturbed.text
        assert len(made) == 2


async def test_disconnect_frees_a_slot_of_the_model(gguf: Path) -> None:
    """llama.cpp itself says so: it decodes for nobody, and what was logged until then is what is charged."""
    async with real_node(gguf, resume_grace_s=0.05) as (node, made):
        [backend] = made
        for route, way in ((STREAM, Way.RST), (JSON, Way.FIN), (SOCKET, Way.CANCEL), (JSON, Way.CANCEL)):
            prompt = f"Tell me a very long story about {route} and {way}."
            async with route.open(node.url, prompt, 900) as client:
                ledger = node.node.ledger
                await wait_until(lambda: "1 running" in repr(ledger))  # noqa: B023 - used at once
                [record] = [each for each in ledger._records.values() if each.request.text == prompt]
                with trio.fail_after(30):
                    while len(record.tokens) < 3:  # noqa: ASYNC110 - its growth has no event for a test
                        await trio.sleep(0.01)
                assert await busy_slots(backend._client) == 1
                await client.leave(way, record.request_id)
                with trio.fail_after(30):
                    while await busy_slots(backend._client):  # noqa: ASYNC110 - another process decides
                        await trio.sleep(0.01)
            assert record.end == Finished("cancelled", Usage(0, len(record.tokens)))
            assert len(record.tokens) < 800
