"""A pause is no crash: whatever is stopped for a while, no accepted request ends in an error.

With `--chaos-minutes` the pauses last for 1 to 30 seconds.
"""

import random
import signal
import sys

import pytest
import trio

from llmactors.redislink.names import LedgerKey
from llmactors.testing.checker import check
from llmactors.testing.cluster import ClusterSettings
from llmactors.testing.nemeses import FreezeParts
from llmactors.testing.node import NodeProcess, wait_until
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from tests.chaos.runs import NAMES, Chaos

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(100)]


def patient(chaos: Chaos) -> LoadSettings:
    """Clients that wait through any pause, and answers that several pauses hit."""
    tokens = 400 if chaos.is_long else 120
    return LoadSettings(clients=56, max_tokens=tokens, silence_s=90, head_s=90, settle_s=90)


async def test_pauses_of_one_process_convict_nobody(chaos: Chaos) -> None:
    """Each pause is longer than a lease of a cluster."""
    rng, budget_s = random.Random(chaos.tally.seed), 0.2 * chaos.tally.minutes * 60
    pauses = 0
    with NodeProcess("serve", "--model", "mock:step_ms=20,slots=64", "--bind", "127.0.0.1:0") as node:
        url = await trio.to_thread.run_sync(node.wait_ready)
        load = StreamLoad(lambda: [url], patient(chaos), seed=chaos.tally.seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            await wait_until(lambda: load.history.open >= load.settings.clients)
            until = trio.current_time() + budget_s
            while pauses < 5 or trio.current_time() < until:
                node.process.send_signal(signal.SIGSTOP)
                await trio.sleep(rng.uniform(1, 30) if chaos.is_long else 1.7)
                node.process.send_signal(signal.SIGCONT)
                pauses += 1
                await trio.sleep(rng.uniform(0.2, 3) if chaos.is_long else 0.3)
            load.stop()
        report = check(load.history, strikes={"pauses of one process": pauses})
        chaos.tally.reports.append(report)
        sys.stdout.write(f"{report}\n")
        assert not report.broken, str(report)
        assert not report.failures, str(report)
        assert report.accepted >= load.settings.clients
        assert "the worker lost its lease and drops its requests" not in node.errors()


async def test_pauses_of_a_cluster_convict_nobody(chaos: Chaos) -> None:
    """Each worker in turn is stopped for longer than its lease, so that the same requests lose many workers."""
    async with chaos.run(ClusterSettings(gateways=2, workers=2), load=patient(chaos), share=0.8) as run:
        parts = [
            FreezeParts(run.cluster, part, min_s=1.0 if chaos.is_long else 1.7, max_s=30.0 if chaos.is_long else 1.8)
            for part in ("one", "several", "everything")
        ]
        run.add(*parts)
        until = trio.current_time() + run.budget_s
        while True:
            for worker in run.cluster.workers * 2:
                with worker.stopped():
                    await trio.sleep(parts[0].duration_s(run.rng))
                parts[0].struck()
                await trio.sleep(0.3)
            for part in parts if chaos.is_long else parts[-1:]:
                await part.strike(run.rng)
                await trio.sleep(0.3)
            if trio.current_time() >= until:
                break
        with run.cluster.client() as client:
            assert client.xlen(NAMES.ledger(LedgerKey.DEAD_LETTERS)) == 0
