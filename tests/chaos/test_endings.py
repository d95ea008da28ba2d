"""Chaos runs with special endings: a drained worker, a request that crashes backends, a Redis that loses writes."""

import json
import sys
import time
from pathlib import Path

import httpx
import pytest
import trio

from llmactors.redislink.names import LedgerKey
from llmactors.testing import nemeses
from llmactors.testing.checker import percentiles
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.redis_nemeses import LoseSuffix
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from tests.chaos.runs import NAMES, TOKENS, Chaos, Run
from tests.support.streams import StreamRecord, read_stream

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(100)]


async def test_drain_under_load_moves_streams_and_counts_no_attempt(chaos: Chaos) -> None:
    async with chaos.run() as run:
        worker = run.cluster.workers[0]
        began = time.monotonic()
        where = [worker.name, "--redis", run.cluster.redis.url]
        with trio.fail_after(40):
            await _command("drain", *where)
        took_s = time.monotonic() - began
        await run.wait_flowing()
        attempts = await trio.to_thread.run_sync(_attempts, run)
        await _command("uncordon", *where)
        await run.wait_flowing()
    assert len(attempts) >= 50
    assert set(attempts) == {1}
    # A stream that moved to the other worker has its longest gap in this time.
    gaps = [gap.seconds for gap in run.load.history.gaps(0.05) if began <= gap.ended <= began + took_s + 1]
    found = percentiles(gaps)
    figures = " · ".join(f"{name} {value:.2f} s" for name, value in found.items()) or "none above 0.05 s"
    chaos.tally.notes.append(f"gap where a worker drained: {figures} of {len(gaps)}; the drain took {took_s:.1f} s")


async def _command(*arguments: str) -> None:
    command = [sys.executable, "-m", "llmactors", *arguments]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def _attempts(run: Run) -> list[int]:
    """The attempt numbers of all requests that were claimed."""
    with run.cluster.client() as client:
        pattern = NAMES.ledger(LedgerKey.REQUEST, "*")
        found = [client.hmget(key, "ep", "at") for key in client.scan_iter(pattern, count=1000)]
    return [int(attempt) for epoch, attempt in found if epoch and int(epoch)]


async def test_poisonous_request_fails_and_its_batch_finishes(chaos: Chaos) -> None:
    settings = ClusterSettings(model="mock=mock:step_ms=20,slots=64,crash_at=10,crash_prompt=poison")
    async with chaos.run(settings, may_fail=["POISONED"]) as run:
        poison = StreamLoad(
            lambda: run.cluster.gateway_urls,
            LoadSettings(clients=1, max_tokens=TOKENS, requests=1, prompts="poison", replay_share=1.0),
            seed=chaos.tally.seed,
        )
        with trio.fail_after(40):
            await poison.run()
        letters = await trio.to_thread.run_sync(_dead_letters, run)
    [request] = poison.history.requests
    assert [end.code for end in request.ends] == ["POISONED"]
    assert [token.seq for token in request.tokens] == list(range(1, 10))
    assert len(letters) == 1
    assert b"poison" in letters[0]
    assert not run.report.failures
    chaos.tally.notes.append("one request was made to crash its backend: it alone ended, as POISONED")


def _dead_letters(run: Run) -> list[bytes]:
    with run.cluster.client() as client:
        return [fields[b"body"] for _, fields in client.xrange(NAMES.ledger(LedgerKey.DEAD_LETTERS))]


async def test_redis_killed_with_appendfsync_everysec_loses_nothing(chaos: Chaos) -> None:
    """Lost writes are repaired from the copies of gateways and workers, or the request ends as INTERRUPTED."""
    async with chaos.run(ClusterSettings(appendfsync="everysec"), may_fail=["INTERRUPTED"]) as run:
        await run.strike([(nemeses.KillRedis(run.cluster, min_s=0.1, max_s=0.8), 3, 1.0)])


async def test_redis_that_lost_a_suffix_is_repaired(chaos: Chaos) -> None:
    async with chaos.run(share=0.05, may_fail=["INTERRUPTED"]) as run:
        nemesis = LoseSuffix(run.cluster)
        await run.strike([(nemesis, 4, 1.5)])
        await run.wait_flowing()
        said = [line for member in run.cluster.members for line in member.stderr().splitlines()]
    losses = [json.loads(line) for line in said if "Redis has lost writes" in line]
    mended, restored = (sum(loss[became] for loss in losses) for became in ("extended", "restored"))
    chaos.tally.notes.append(
        f"{nemesis.lost_bytes:,} bytes that Redis had acknowledged were taken from it: {mended} logs mended, "
        f"{restored} requests restored, {run.report.failures['INTERRUPTED']} ends INTERRUPTED"
    )
    assert mended + restored > 0
    # Each node says each loss once, and not once for each of its streams.
    assert len(losses) <= len(run.cluster.members) * nemesis.count


@pytest.mark.model
async def test_real_model_answer_is_the_same_after_all_workers_die(chaos: Chaos, gguf: Path) -> None:
    body = {"prompt": "Tell me a short story about a dog.", "max_tokens": 160, "temperature": 0}
    arguments = ("--slots", "4", "--context", "1024", "--threads", "1")
    settings = ClusterSettings(gateways=1, model=f"smollm2-135m={gguf}", worker_arguments=arguments, start_s=60)
    async with Cluster(settings) as cluster:
        url = cluster.gateway_urls[0]
        await _wait_ready(url)
        undisturbed = await read_stream(url, body)
        record = StreamRecord()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_stream, url, body, record)
            while len(record.texts) < 10:  # noqa: ASYNC110 - what arrives has no event
                await trio.sleep(0.002)
            at = len(record.texts)
            for worker in cluster.workers:
                worker.kill()
        assert not cluster.tracebacks()
    assert 10 <= at < len(undisturbed.texts)
    assert record.text == undisturbed.text
    assert record.end is not None
    chaos.tally.notes.append(
        f"all workers of a real model were killed after token {at} of {len(undisturbed.texts)}: the same response went "
        "on, and is equal to an undisturbed one"
    )


async def _wait_ready(url: str) -> None:
    async with httpx.AsyncClient() as client:
        with trio.fail_after(30):
            while not (await client.get(f"{url}/readyz")).is_success:  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
