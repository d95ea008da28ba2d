"""Break a cluster in many ways, and wait until Prometheus fires the alert of each fault.

    python -m tests.observability.alerts

The cluster and Prometheus are real. The times of the rules are shorter, so that the drill takes three minutes: `for` is
a second, and windows are some seconds. The program exits with 1 if an alert did not fire and `NOT_DRILLED` does not say
why.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import httpx
import msgspec
import trio

from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.host import free_port
from llmactors.testing.node import NodeProcess
from tests.observability.prometheus import RULES, NoPrometheusError, Prometheus, prometheus

NOT_DRILLED = {
    "LlmactorsFilesNearLimit": "the machine would have to run out of files",
    "LlmactorsLogLost": "the disk would have to be full",
    "LlmactorsSpansLost": "traces are off here, and `just trace` shows them",
    "LlmactorsVersionsDiffer": "there is one version here",
}
"""Alerts that the drill leaves to their unit tests, and why."""
_LIMITS = {
    # A drill has no time for what is slow in earnest.
    'llmactors_queue_oldest_seconds{class=~"0|1"}) > 60': 'llmactors_queue_oldest_seconds{class=~"0|1"}) > 1',
    "ttft_seconds:p99_5m > 30": "ttft_seconds:p99_5m > 1",
    "inter_token_seconds:p99_5m > 1": "inter_token_seconds:p99_5m > 0.3",
    "[15m])) > 20": "[15m])) > 1",
    "[15m])) > 6": "[15m])) > 2",
}
_SHORT_S = {"5m": 8, "10m": 10, "15m": 15, "30m": 240}
_MODELS = """
[models.broken]
source = "mock:start_fail=1000"
memory = "1MiB"

[models.slow]
source = "mock:load_s=8"
memory = "1MiB"
"""
_POISON = "poison"


def shortened(text: str) -> str:
    """The rules with short times and low limits."""
    for old, new in _LIMITS.items():
        text = text.replace(old, new)
    text = re.sub(r"\bfor: \w+", "for: 1s", text)
    return re.sub(r"\[(\w+)\]", lambda match: f"[{_SHORT_S[match[1]]}s]", text)


@attrs.frozen
class Drill:
    """The cluster that is broken, and what was seen."""

    cluster: Cluster
    upstream: NodeProcess
    server: Prometheus
    fired: dict[str, float] = attrs.field(factory=dict)
    """When each alert fired first, in seconds since the begin of the drill."""

    async def send(self, body: Mapping[str, object], gateway: int = 0) -> None:
        """Sends one request, and reads the answer whatever it is."""
        async with httpx.AsyncClient(base_url=self.cluster.gateway_urls[gateway], timeout=20) as client:
            with contextlib.suppress(httpx.HTTPError):
                await client.post("/v1/generate", json={"model": "main", "max_tokens": 40, **body})

    async def clients(self, count: int, body: Mapping[str, object]) -> None:
        """Keeps `count` requests open until cancelled."""

        async def repeat(gateway: int) -> None:
            while True:
                await self.send(body, gateway)
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(repeat, number % 2)

    async def streams(self) -> None:
        """Reads streams until cancelled."""
        async with httpx.AsyncClient(base_url=self.cluster.gateway_urls[0], timeout=20) as client:
            while True:
                body = {"model": "main", "prompt": "stream", "max_tokens": 40, "stream": True}
                with contextlib.suppress(httpx.HTTPError):
                    async with client.stream("POST", "/v1/generate", json=body) as answer:
                        async for _ in answer.aiter_bytes():
                            pass
                await trio.sleep(0.05)

    async def watch(self) -> None:
        """Notes each alert that fires, until cancelled."""
        began = trio.current_time()
        while True:
            for name in await self.server.firing():
                if name not in self.fired:
                    self.fired[name] = trio.current_time() - began
                    print(f"{self.fired[name]:5.0f} s  {name}", flush=True)
            await trio.sleep(0.5)

    async def starts_seen(self, name: str) -> int:
        """How often Prometheus has seen a new process of a node in the last minutes; -1 before the first one."""
        found = await self.server.query(f'changes(process_start_time_seconds{{instance="{name}"}}[5m])')
        return int(found[0]["value"][1]) if found else -1

    # The faults.

    async def too_many_requests(self) -> None:
        with trio.move_on_after(10):
            await self.clients(40, {"prompt": "many"})

    async def request_that_kills_its_backend(self) -> None:
        for _ in range(3):
            await self.send({"prompt": _POISON})

    async def model_that_cannot_load(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.send, {"prompt": "p", "model": "broken"})
            nursery.start_soon(self.send, {"prompt": "p", "model": "slow"})
            await trio.sleep(12)
            nursery.cancel_scope.cancel(reason="the models were asked for")

    async def upstream_that_dies(self) -> None:
        self.upstream.process.kill()
        with trio.move_on_after(6):
            await self.clients(2, {"prompt": "p", "model": "other"})

    async def frozen_workers(self) -> None:
        for number in range(8):
            with self.cluster.workers[number % 2].stopped():
                await trio.sleep(1.8)
            await trio.sleep(0.7)

    async def worker_that_dies_again_and_again(self) -> None:
        """Kills the worker whenever Prometheus has seen the newest start of its process."""
        worker = self.cluster.workers[0]
        for starts in range(4):
            with trio.move_on_after(40):
                while await self.starts_seen(worker.name) < starts:  # noqa: ASYNC110 - Prometheus tells of no start
                    await trio.sleep(0.5)
            worker.kill()
        await trio.sleep(2)

    async def slow_redis(self) -> None:
        with contextlib.ExitStack() as stack:
            for proxy in self.cluster.proxies:
                stack.enter_context(proxy.delayed(0.3))
            await trio.sleep(8)

    async def lost_connections_to_redis(self) -> None:
        for _ in range(5):
            for proxy in self.cluster.proxies:
                proxy.cut()
            await trio.sleep(1.5)

    async def lost_redis(self) -> None:
        await self.cluster.restart_redis(down_s=8)
        await trio.sleep(3)

    async def lost_workers(self) -> None:
        for worker in self.cluster.workers:
            worker.kept_up = False
            worker.kill()
        await trio.sleep(10)
        for worker in self.cluster.workers:
            worker.kept_up = True


FAULTS: Sequence[Callable[[Drill], Awaitable[None]]] = (
    Drill.too_many_requests,
    Drill.request_that_kills_its_backend,
    Drill.model_that_cannot_load,
    Drill.upstream_that_dies,
    Drill.frozen_workers,
    Drill.worker_that_dies_again_and_again,
    Drill.slow_redis,
    Drill.lost_connections_to_redis,
    Drill.lost_redis,
    Drill.lost_workers,
)


def alerts() -> list[str]:
    """The names of all alerts."""
    rules = msgspec.yaml.decode((RULES / "alerts.yml").read_bytes())
    return [rule["alert"] for group in rules["groups"] for rule in group["rules"]]


def _settings(directory: Path, living: str) -> ClusterSettings:
    config = directory / "llmactors.toml"
    config.write_text(_MODELS, encoding="utf-8")
    dead = f"http://127.0.0.1:{free_port()}"
    other = f"other=openai:{dead}/v1,model=mock|{living}/v1,model=mock,wait_s=2"
    return ClusterSettings(
        model=f"main=mock:step_ms=20,slots=3,crash_at=3,crash_prompt={_POISON}",
        worker_metrics=True,
        start_s=90,
        proxied=True,
        # This setting is wrong.
        redis_options={"maxmemory_policy": "allkeys-lru"},
        settings={"worker_grace_s": 1, "max_queued": 16, "drain_s": 1},
        gateway_arguments=("--config", str(config)),
        worker_arguments=("--config", str(config), "--model", other),
    )


async def run() -> dict[str, float]:
    """Plays all faults, one after the other; returns when each alert fired first."""
    with tempfile.TemporaryDirectory(prefix="llmactors-alerts-") as name:
        directory = Path(name)
        rules = directory / "rules"
        rules.mkdir()
        for path in RULES.glob("*.yml"):
            (rules / path.name).write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8")
        with NodeProcess("serve", "--model", "mock=mock:step_ms=5", "--bind", "127.0.0.1:0") as upstream:
            living = await trio.to_thread.run_sync(upstream.wait_ready)
            async with (
                Cluster(_settings(directory, living)) as cluster,
                prometheus(cluster, directory, rules) as server,
                trio.open_nursery() as nursery,
            ):
                drill = Drill(cluster, upstream, server)
                nursery.start_soon(drill.watch)
                nursery.start_soon(drill.clients, 4, {"prompt": "load"})
                for _ in range(3):
                    nursery.start_soon(drill.streams)
                for fault in FAULTS:
                    print(f"         {fault.__name__.replace('_', ' ')}", flush=True)
                    await fault(drill)
                    await trio.sleep(2)
                nursery.cancel_scope.cancel(reason="all faults were played")
            return drill.fired


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints when each alert fired; 0 if each one did, or is named as not drilled."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args(arguments)
    began = time.monotonic()
    try:
        fired = trio.run(run)
    except NoPrometheusError as error:
        print(error, file=sys.stderr)
        return 1
    silent = [name for name in alerts() if name not in fired and name not in NOT_DRILLED]
    for name, reason in NOT_DRILLED.items():
        print(f"not drilled: {name}: {reason}")
    for name in silent:
        print(f"SILENT: {name}")
    print(
        f"{len(fired)} of {len(alerts())} alerts fired, {len(silent)} should have, in {time.monotonic() - began:.0f} s"
    )
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
