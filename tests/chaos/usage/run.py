"""Kills workers and gateways under load, and compares what Redis says of usage once every request has ended."""

import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import attrs
import trio

from llmactors.access.keys.file import write_keys
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import new_key
from llmactors.limiter import Limits
from llmactors.testing.checker import CheckReport, check
from llmactors.testing.cluster import ClusterSettings
from llmactors.testing.managed_process import poll_until
from llmactors.testing.nemeses import KillGateway, KillRedis, KillWorker, Nemesis, strikes
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from llmactors.testing.usage_oracle import UsageSeen
from tests.chaos.forking import ForkingCluster
from tests.chaos.runs import usage_of, wait_settled
from tests.chaos.usage.load import EndingClients

CLIENTS = 20
ENDING_CLIENTS = 6
TOKENS = 30
MAY_FAIL = {"POISONED", "DEADLINE_EXCEEDED"}
"""Workers are killed so often that a request may lose many of them."""
_SETTINGS = {
    "retention_s": 7200,
    "resume_grace_s": 15,
    "lease_s": 1.5,
    "usage_records_max": 1_000_000,
    "quarantine_from_attempt": 8,
}


@attrs.frozen
class UsageOutcome:
    """What one run has found."""

    report: CheckReport
    usage: UsageSeen
    differences: list[str]
    ways: Counter[str]
    kills: int
    left: list[str]
    """What Redis still counted as waiting or running after the load had ended."""
    tracebacks: list[str]


async def run_kills(kills: int, minutes: float, seed: int) -> UsageOutcome:
    """Kills processes until `kills` have died and `minutes` have passed."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        key, path = new_key(), Path(folder) / "keys.json"
        limits = Limits(tokens_per_day=10**12, concurrent=10_000)
        write_keys(path, [KeyRecord(id=key.id, tenant="t", hash=key.digest, created=1.0, limits=limits)])
        settings = ClusterSettings(
            workers=5,
            model="mock:step_ms=20,slots=16",
            settings={"keys": str(path), **_SETTINGS},
            restart_after_s=0.05,
        )
        async with ForkingCluster(settings) as cluster:
            load = StreamLoad(
                lambda: cluster.gateway_urls,
                LoadSettings(clients=CLIENTS, max_tokens=TOKENS, api_key=key.text),
                seed=seed,
            )
            others = EndingClients(lambda: cluster.gateway_urls, key.text, random.Random(seed + 1))
            worker, gateway = KillWorker(cluster), KillGateway(cluster)
            redis = KillRedis(cluster, min_s=0.05, max_s=0.3)
            nemeses: list[Nemesis] = [worker, gateway, redis]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load.run)
                nursery.start_soon(others.run, ENDING_CLIENTS)
                with trio.fail_after(30):
                    await poll_until(lambda: load.history.open >= CLIENTS // 2)
                began = time.monotonic()
                while worker.count + gateway.count < kills or time.monotonic() - began < minutes * 60:
                    chosen = rng.choices((worker, gateway, redis), weights=(20, 5, 0.3))[0]
                    await chosen.strike(random.Random(rng.getrandbits(64)))
                    await trio.sleep(rng.uniform(0.0, 0.3))
                load.stop()
                others.stop()
            left = await wait_settled(cluster)
            usage = await trio.to_thread.run_sync(usage_of, cluster.client())
            report = check(load.history, strikes=strikes(nemeses), usage=usage)
            return UsageOutcome(
                report,
                usage,
                usage.differences(is_charged=True),
                others.ways,
                worker.count + gateway.count,
                left,
                cluster.tracebacks(),
            )
