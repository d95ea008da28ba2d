"""Whichever actor of a serving node crashes, each accepted request ends once and has each token once."""

import contextlib
import random

import pytest
import trio

from llmactors.actors.errors import MisuseError
from llmactors.testing.node import LocalNode, local_node, mock_model, wait_until
from tests.support.oracle import oracle
from tests.support.streams import StreamRecord, read_stream, read_stubbornly

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

STREAMS = 24
TOKENS = 120
CRASHES = 4
ACTORS = [
    "node/infra/reaper",
    "node/infra/telemetry",
    "node/serving/backends/mock",
    "node/serving/batcher:mock",
    "node/http/limiter",
    "node/http/gateway",
]


async def stream_into(records: dict[str, StreamRecord], node: LocalNode, prompt: str) -> None:
    body = {"prompt": prompt, "max_tokens": TOKENS}
    await read_stubbornly(node.url, body, records.setdefault(prompt, StreamRecord()))


def total_tokens(records: dict[str, StreamRecord]) -> int:
    return sum(len(record.texts) for record in records.values())


@pytest.mark.parametrize("path", ACTORS)
async def test_actor_crash_loses_no_token_and_restarts_only_that_actor(path: str) -> None:
    # Only two crashes: a request that was in flight at both of them runs alone from then on, which slows the load.
    async with local_node(mock_model("step_ms=2,slots=32"), rate_limit="1000/s") as node:
        before = node.incarnations()
        records: dict[str, StreamRecord] = {}
        async with trio.open_nursery() as nursery:
            for number in range(STREAMS):
                nursery.start_soon(stream_into, records, node, f"stream {number}")
            for crash in (1, 2):
                target = STREAMS * TOKENS * crash // 3
                await wait_until(lambda: total_tokens(records) >= target)  # noqa: B023 - awaited at once
                node.crash(path)
                await node.wait_running(path, before[path] + crash)

        assert {prompt: record.text for prompt, record in records.items()} == {
            f"stream {number}": oracle(f"stream {number}", TOKENS) for number in range(STREAMS)
        }
        assert {record.end_event for record in records.values()} == {"done"}
        assert node.incarnations() == {**before, path: before[path] + 2}
        statistics = await node.node.ledger.statistics()
        assert (statistics.accepted_total, statistics.ended_total) == (STREAMS, STREAMS)


@pytest.mark.parametrize("seed", range(3))
async def test_random_actor_crashes_lose_no_token(seed: int) -> None:
    rng = random.Random(seed)
    async with local_node(mock_model("step_ms=2,slots=32"), rate_limit="1000/s") as node:
        records: dict[str, StreamRecord] = {}
        async with trio.open_nursery() as nursery:
            for number in range(STREAMS):
                nursery.start_soon(stream_into, records, node, f"stream {number}")
            for _ in range(CRASHES):
                path = rng.choice(ACTORS)
                await trio.sleep(rng.uniform(0.0, 0.1))  # when it strikes is part of the seed
                with contextlib.suppress(MisuseError):  # it is down, or on its way there, from the crash before
                    node.crash(path)

        for number in range(STREAMS):
            record = records[f"stream {number}"]
            assert record.text == oracle(f"stream {number}", TOKENS)[: len(record.text)]
            assert record.end_event == "done" or (record.end or {})["error"]["code"] == "POISONED"
        statistics = await node.node.ledger.statistics()
        assert statistics.accepted_total == statistics.ended_total >= STREAMS
        assert (statistics.queued, statistics.running) == (0, 0)


async def test_request_that_crashes_backends_is_poisoned_alone() -> None:
    model = mock_model("step_ms=2,slots=8,crash_at=5,crash_prompt=poison")
    async with local_node(model) as node:
        before = node.incarnations()
        records: dict[str, StreamRecord] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream_into, records, node, "the poison one")
            for number in range(6):
                nursery.start_soon(stream_into, records, node, f"innocent {number}")

        poison = records.pop("the poison one")
        assert poison.end is not None
        assert poison.end["error"]["code"] == "POISONED"
        assert poison.text == oracle("the poison one", 4)
        assert {prompt: record.text for prompt, record in records.items()} == {
            prompt: oracle(prompt, TOKENS) for prompt in records
        }
        backend = "node/serving/backends/mock"
        # The request crashes two backends in a batch, and up to three more until it runs alone.
        crashes = (await node.node.ledger.dead_letters())[0].attempt
        assert 3 <= crashes <= 5
        await node.wait_running(backend, before[backend] + crashes)
        assert node.incarnations() == {**before, backend: before[backend] + crashes}
        assert [letter.request.prompt for letter in await node.node.ledger.dead_letters()] == ["the poison one"]

        served = await read_stream(node.url, {"prompt": "later", "max_tokens": 3})
        assert served.text == oracle("later", 3)


async def test_poisonous_json_request_gets_poisoned_error() -> None:
    async with local_node(mock_model("crash_at=1")) as node:
        response = await node.client.post("/v1/generate", json={"prompt": "x"})

        assert (response.status_code, response.json()["error"]["code"]) == (500, "POISONED")


async def test_hung_backend_makes_node_unready_and_is_restarted() -> None:
    model = mock_model("step_ms=2,hang_at=5,crash_times=1")
    async with local_node(model, stalled_s=0.3, hung_s=1.5) as node:

        async def ready() -> tuple[int, dict[str, str]]:
            response = await node.client.get("/readyz")
            return response.status_code, response.json()["problems"]

        assert await ready() == (200, {})
        records: dict[str, StreamRecord] = {}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream_into, records, node, "hang")
            with trio.fail_after(5):
                while (await ready())[0] == 200:  # noqa: ASYNC110 - asked over HTTP, as an orchestrator does
                    await trio.sleep(0.02)
            status, problems = await ready()
            assert status == 503
            assert problems["model:mock"].startswith("stalled")

        assert records["hang"].text == oracle("hang", TOKENS)
        assert await ready() == (200, {})
        assert node.incarnations()["node/serving/backends/mock"] == 2
