"""Six models in the memory of two: count loads and losses, and measure how long the requests of each tenant wait.

    python -m bench.swapping                          # about four minutes on two idle cores
    python -m bench.swapping --workers 1 --model mock:step_ms=20,slots=4,load_s=2

200 requests of five tenants come in random order over Redis, for six models that are copies of one file under other
names. All workers together have the memory of two models. When half of the answers are complete, every worker is
stopped for a minute, in which a fifth of the requests come. The program exits with 1 if a request was refused or lost.

The fewest possible loads are one for each model with requests before the stop, and one for each model that has requests
left after the stop.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import attrs
import httpx
import trio

from llmactors.backends.models.download import ensure_model
from llmactors.config import DeclaredModel
from llmactors.testing.cluster import Cluster, ClusterSettings

MODELS = tuple(f"model-{number}" for number in range(1, 7))
TENANTS = ("amber", "birch", "cedar", "delta", "ember")
PLACES = 2
_PROMPTS = ("Why is the sky blue?", "Name three rivers.", "Count to ten.", "What is a queue?")
_ONE_IN_COMES_LATE = 5
_LOADED = "a model is loaded because requests wait for it"


@attrs.frozen
class SwappingRun:
    """One run."""

    requests: int
    workers: int
    over_s: float
    """For how long requests come, apart from the stop."""
    stop_s: float
    max_tokens: int
    seed: int
    model: str
    """What all six models are, as the setting `model` has it; empty: copies of the smallest real model."""
    patience_s: float


@attrs.define
class SwapRequest:
    """One request and what became of it. Times are on Trio's clock."""

    tenant: str
    model: str
    prompt: str
    at_s: float
    """When the request comes: after the begin, or after the stop of the workers."""
    while_stopped: bool = False
    """Whether the request comes while no worker runs."""
    status: int = 0
    sent_at: float = 0.0
    first_at: float | None = None
    ended_at: float | None = None
    tokens: int = 0
    problem: str = ""

    @property
    def wait_s(self) -> float:
        """From the request to its first token."""
        return (self.first_at or self.ended_at or 0.0) - self.sent_at


async def measure(run: SwappingRun) -> int:
    """Runs and prints everything. Returns the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="llmactors-swapping-"))
    try:
        keys = _keys(folder / "keys.json")
        settings = ClusterSettings(
            gateways=1,
            workers=run.workers,
            model="",
            gateway_arguments=("--keys", str(folder / "keys.json")),
            settings={
                "models": _models(run, folder),
                "model_memory": f"{PLACES // run.workers}GiB",
                "model_patience_s": run.patience_s,
                "threads": 1,
            },
        )
        async with Cluster(settings) as cluster:
            requests = _requests(run)
            resumed_at = await _load(cluster, run, requests, keys)
            loads = _loads(cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(run, requests, loads, resumed_at)


def _models(run: SwappingRun, folder: Path) -> dict[str, DeclaredModel]:
    if run.model:
        return {name: DeclaredModel(source=run.model, memory="1GiB") for name in MODELS}
    original = ensure_model("smollm2-135m").path
    for name in MODELS:
        shutil.copyfile(original, folder / f"{name}.gguf")
    return {
        name: DeclaredModel(source=str(folder / f"{name}.gguf"), memory="1GiB", slots=4, context=512) for name in MODELS
    }


def _keys(path: Path) -> dict[str, str]:
    """A key for each tenant."""
    command = [sys.executable, "-m", "llmactors", "keys", "create", "--keys", str(path)]
    return {
        tenant: subprocess.run(
            [*command, "--tenant", tenant], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        for tenant in TENANTS
    }


def _requests(run: SwappingRun) -> list[SwapRequest]:
    rng = random.Random(run.seed)
    found = []
    for number in range(run.requests):
        while_stopped = number % _ONE_IN_COMES_LATE == 0
        at_s = rng.uniform(0, run.stop_s if while_stopped else run.over_s)
        found.append(SwapRequest(rng.choice(TENANTS), rng.choice(MODELS), rng.choice(_PROMPTS), at_s, while_stopped))
    return found


async def _load(cluster: Cluster, run: SwappingRun, requests: Sequence[SwapRequest], keys: dict[str, str]) -> float:
    """Sends all requests, stops the workers in between, and returns when the workers were back."""
    began, half, stopped = trio.current_time(), trio.Event(), trio.Event()
    async with httpx.AsyncClient(base_url=cluster.gateways[0].url, timeout=None, limits=_NO_LIMITS) as client:

        async def ask(each: SwapRequest) -> None:
            if each.while_stopped:
                await stopped.wait()
                await trio.sleep(each.at_s)
            else:
                await trio.sleep_until(began + each.at_s)
            await _ask(client, each, keys[each.tenant], run.max_tokens)
            if sum(other.ended_at is not None for other in requests) >= run.requests // 2:
                half.set()

        async with trio.open_nursery() as nursery:
            for each in requests:
                nursery.start_soon(ask, each)
            await half.wait()
            for worker in cluster.workers:
                worker.kept_up = False
                worker.kill()
            stopped.set()
            print(f"{trio.current_time() - began:6.1f} s: every worker is stopped for {run.stop_s:g} s", flush=True)
            await trio.sleep(run.stop_s)
            for worker in cluster.workers:
                worker.kept_up = True
            resumed_at = trio.current_time()
            print(f"{resumed_at - began:6.1f} s: the workers start again", flush=True)
    print(f"{trio.current_time() - began:6.1f} s: all requests have ended", flush=True)
    return resumed_at


_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


async def _ask(client: httpx.AsyncClient, each: SwapRequest, key: str, max_tokens: int) -> None:
    body = {"model": each.model, "prompt": each.prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}
    each.sent_at = trio.current_time()
    headers = {"Authorization": f"Bearer {key}"}
    async with client.stream("POST", "/v1/generate", json=body, headers=headers) as response:
        each.status = response.status_code
        if response.status_code != httpx.codes.OK:
            each.problem = (await response.aread()).decode()
            each.ended_at = trio.current_time()
            return
        event, ends = "", 0
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and event == "token":
                each.first_at = each.first_at or trio.current_time()
                each.tokens += 1
            elif line.startswith("data: ") and event in {"done", "error"}:
                ends += 1
                each.problem = "" if event == "done" else line
        each.ended_at = trio.current_time()
        if ends != 1:
            each.problem = f"the stream had {ends} ends"


def _loads(cluster: Cluster) -> dict[str, int]:
    """How often each model was loaded, from the logs of all workers."""
    counts: defaultdict[str, int] = defaultdict(int)
    for path in cluster.directory.glob("worker-*.err"):
        for line in path.read_text("utf-8", "replace").splitlines():
            if _LOADED in line:
                counts[json.loads(line)["model"]] += 1
    return dict(counts)


def _report(run: SwappingRun, requests: Sequence[SwapRequest], loads: dict[str, int], resumed_at: float) -> int:
    lost = [each for each in requests if each.problem or each.ended_at is None]
    before = {each.model for each in requests if each.ended_at is not None and each.ended_at < resumed_at}
    after = {each.model for each in requests if each.ended_at is not None and each.ended_at >= resumed_at}
    came_meanwhile = sum(resumed_at - run.stop_s < each.sent_at < resumed_at for each in requests)
    print(f"\n{run.requests} requests, {len(lost)} lost; {came_meanwhile} came while no worker ran")
    for each in lost[:5]:
        print(f"  lost: {each.status} {each.problem}")
    fewest = len(before) + len(after)
    print(f"loads: {sum(loads.values())}, the fewest possible are {fewest}; by model: {loads}")
    print("from the request to the first token, by tenant:")
    for tenant in TENANTS:
        waits = sorted(each.wait_s for each in requests if each.tenant == tenant)
        print(f"  {tenant}: {len(waits):3} requests, median {median(waits):6.1f} s, longest {waits[-1]:6.1f} s")
    return 1 if lost else 0


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description="Six models in the memory of two.")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2, choices=[1, 2])
    parser.add_argument("--over", type=float, default=90.0, help="the time over which requests come, in seconds")
    parser.add_argument("--stop", type=float, default=60.0, help="how long the workers are stopped, in seconds")
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--patience", type=float, default=30.0, help="the setting `model_patience_s`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", default="", help="a simulated model in place of the real one")
    given = parser.parse_args()
    run = SwappingRun(
        requests=given.requests,
        workers=given.workers,
        over_s=given.over,
        stop_s=given.stop,
        max_tokens=given.max_tokens,
        seed=given.seed,
        model=given.model,
        patience_s=given.patience,
    )
    return trio.run(measure, run)


if __name__ == "__main__":
    sys.exit(main())
