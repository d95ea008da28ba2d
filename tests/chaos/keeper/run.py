"""The cluster, the processes of the clients, the kills and the upgrades."""

import contextlib
import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import attrs
import httpx
import psutil
import trio

from llmactors.keeper.status import KeeperStatus, status_of
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.managed_process import poll_until
from tests.chaos.keeper.browser import PAGE_SETTINGS
from tests.chaos.keeper.records import PATIENCE_S, Answer, Outcome, Strike
from tests.chaos.keeper.shapes import all_shapes, templated

GROUPS = {
    "plain": {
        "socket": 80,
        "socket, in pieces": 20,
        "socket, pipelined": 20,
        "socket, new for each": 10,
        "socket, idle between": 20,
        "socket, slow": 10,
        "curl": 20,
        "websocket": 8,
    },
    "threads": {"openai sync": 25, "httpx sync": 20},
    "asyncio": {"openai async": 30},
    "trio": {"httpx async": 30},
    "browser": {"Chromium fetch": 20, "Chromium EventSource": 15, "Chromium WebSocket": 4},
}
"""The clients of each process, where 332 run in all."""
_CUT = re.compile(r"was cut|and [1-9]\d* are cut")
LATER_S = 3.0
"""The time after a kill until which its pause must have ended, on an idle machine, for its figures to be taken."""


@attrs.frozen
class Choices:
    """How the program runs."""

    kills: int
    upgrades: int
    share: float
    """How many clients run, as a share of those of `GROUPS`."""
    only: Sequence[str]
    """The kinds of clients that run; empty for all."""
    keeper: bool
    step_s: float
    tokens: int
    seed: int
    minutes: float
    """After so long, no more strikes begin."""


def planned(choices: Choices) -> dict[str, dict[str, int]]:
    """The number of clients of each kind, by the process that they run in."""
    found: dict[str, dict[str, int]] = {}
    for group, kinds in GROUPS.items():
        chosen = {
            kind: max(1, round(count * choices.share))
            for kind, count in kinds.items()
            if not choices.only or any(name in kind for name in choices.only)
        }
        if chosen:
            found[group] = chosen
    return found


def kinds_of(plan: Mapping[str, Mapping[str, int]]) -> set[str]:
    """The kinds of clients of a plan."""
    return {kind for kinds in plan.values() for kind in kinds}


async def run(choices: Choices) -> Outcome:
    """Runs the clients under kills and upgrades."""
    outcome = Outcome()
    plan = planned(choices)
    outcome.clients = sum(sum(kinds.values()) for kinds in plan.values())
    settings = ClusterSettings(
        gateways=1,
        workers=1,
        model=f"mock:step_ms={int(choices.step_s * 1000)},slots=2000",
        settings={"keeper": choices.keeper, "max_queued": 10_000, "standby_s": 300.0, **PAGE_SETTINGS},
        start_s=180.0,
    )
    async with Cluster(settings) as cluster:
        url = cluster.gateway_urls[0]
        templates = await learn(url, choices.tokens)
        begin = {"url": url, "tokens": choices.tokens, "templates": templates}
        async with trio.open_nursery() as nursery:
            loaders = [
                await nursery.start(functools.partial(load, group, {**begin, "clients": kinds}, outcome))
                for group, kinds in plan.items()
            ]
            await poll_until(lambda: outcome.clients_seen == kinds_of(plan))
            await strike_all(cluster, choices, outcome)
            await trio.sleep(LATER_S)
            for loader in loaders:
                await loader.stdin.aclose()
        outcome.notes += notes_of(cluster)
    return outcome


async def learn(url: str, tokens: int) -> dict[str, str]:
    """The templates of all shapes, from answers that nothing disturbs."""
    templates: dict[str, str] = {}
    prompt = "the reference prompt"

    async def ask(http: httpx.AsyncClient, name: str) -> None:
        shape = all_shapes(tokens)[name]
        given = shape.prompt(prompt)
        headers = {"content-type": "application/json"}
        answer = await http.post(url + shape.path, content=shape.body(given), headers=headers)
        answer.raise_for_status()
        templates[name] = templated(shape, given, tokens, answer.content)

    async with httpx.AsyncClient(timeout=PATIENCE_S) as http:
        while (await http.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.1)
        async with trio.open_nursery() as nursery:
            for name in all_shapes(tokens):
                nursery.start_soon(ask, http, name)
    return templates


async def load(
    group: str,
    plan: dict[str, object],
    outcome: Outcome,
    *,
    task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs the clients of one process, and gathers their answers. Raises `RuntimeError` if the process fails."""
    command = [sys.executable, "-m", "tests.chaos.keeper.loaders", group]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin
        assert process.stdout
        await process.stdin.send_all(json.dumps(plan).encode() + b"\n")
        task_status.started(process)
        unread = b""
        async for data in process.stdout:
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                outcome.add(Answer(**json.loads(line)))
        if await process.wait():
            raise RuntimeError(f"the clients of the group {group} ended with {process.returncode}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def strike_all(cluster: Cluster, choices: Choices, outcome: Outcome) -> None:
    """Kills and upgrades the gateway as often as is chosen."""
    rng = random.Random(choices.seed)
    gateway = cluster.gateways[0]
    told = 0
    last = time.monotonic() + choices.minutes * 60
    for number in range(choices.kills + choices.upgrades):
        if time.monotonic() > last:
            break
        is_kill = number < choices.kills
        if choices.keeper:
            await strike_kept(gateway.pid, outcome, rng, is_kill=is_kill)
        else:
            await gateway.wait_ready(number + 1)
            await trio.sleep(rng.uniform(2.0, 4.0))
            outcome.strikes.append(Strike("kill -9", time.monotonic()))
            gateway.kill()
        kind, answers = outcome.strikes[-1].kind, outcome.counted.total()
        print(f"{number + 1}: {kind}; {answers} answers so far, {len(outcome.faults)} faults", flush=True)
        for answer in outcome.faults[told : told + 3]:
            print(f"    {answer.client}, {answer.shape}: {answer.fault[:300]}", flush=True)
        told = len(outcome.faults)
    if choices.keeper:
        await wait_status(gateway.pid)
    else:
        await gateway.wait_ready(len(outcome.strikes) + 1)


async def wait_status(pid: int, before: KeeperStatus | None = None) -> KeeperStatus:
    """Waits until a gateway serves and another one is warm, both other ones than before."""
    while True:
        found = status_of(pid)
        if found and found.active and found.standby and (before is None or found.active != before.active):
            return found
        await trio.sleep(0.02)


async def strike_kept(pid: int, outcome: Outcome, rng: random.Random, *, is_kill: bool) -> None:
    """Kills or upgrades the gateway below a keeper, at a random moment once another one is warm."""
    before = await wait_status(pid)
    await trio.sleep(rng.uniform(1.0, 3.0))
    if is_kill:
        cpu = cpu_s(before.standby)
        strike = Strike("kill -9", time.monotonic())
        outcome.strikes.append(strike)
        os.kill(before.active, signal.SIGKILL)
        await trio.sleep(1.0)
        first = cpu_s(before.standby) - cpu
        await trio.sleep(1.0)
        strike.takeover_cpu_ms = (2 * first - (cpu_s(before.standby) - cpu)) / outcome.clients * 1000
        return
    os.kill(pid, signal.SIGUSR2)
    kind = "upgrade"
    while (status := status_of(pid)) and status.takeovers == before.takeovers:
        if status.upgrades > before.upgrades and status.outcome != "upgraded":
            kind = f"upgrade: {status.outcome}"
            break
        await trio.sleep(0.002)
    outcome.strikes.append(Strike(kind, time.monotonic()))
    if kind == "upgrade":
        await wait_status(pid, before)


def cpu_s(pid: int) -> float:
    """The CPU time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def notes_of(cluster: Cluster) -> list[str]:
    """What the processes said of connections that were cut, and their tracebacks."""
    lines = [line for member in cluster.members for line in (member.stdout() + member.stderr()).splitlines()]
    return [line for line in lines if _CUT.search(line)] + cluster.tracebacks()
