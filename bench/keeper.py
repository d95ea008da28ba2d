"""What a keeper gives and costs: kills and upgrades of a gateway under streams, with clients that never reconnect.

    python -m bench.keeper                       # 300 streams, 20 kills, 5 upgrades: about four minutes
    python -m bench.keeper --kills 0 --upgrades 100
    python -m bench.keeper --step-ms 1000 --upgrades 0      # the CPU of takeovers, with few tokens meanwhile
    python -m bench.keeper --costs               # CPU per token and requests/s by turns, and memory per idle connection

One gateway and a worker run over a Redis that writes each append to the disk. Each client sends one request after the
other on one connection, and compares every byte of every answer with the oracle of the simulated model. The program
exits with 1 if a connection was cut, or if a byte was lost, repeated or wrong. A pause is the time in which a client
hears nothing around a kill, less the time of the model's step.
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from functools import partial

import attrs
import httpx
import psutil
import trio

from bench.compare import compare
from bench.comparison import Comparison, report
from bench.processes import ROOT
from bench.revisions import Revision
from bench.scenario import Bench
from bench.servers import CLUSTER
from bench.workloads import WORKLOADS
from llmactors.backends.mock.oracle import mock_prompt_tokens, sequence_hash, token_of
from llmactors.keeper.status import KeeperStatus, status_of
from llmactors.testing.cluster import Cluster, ClusterSettings

TOKENS = 60
_STAGGER_S = 6.0
"""The time in which the clients come, one after the other."""


@attrs.define
class Client:
    """One connection, on which one answer is read after the other."""

    number: int
    heard_at: list[float] = attrs.field(factory=list)
    answers: int = 0
    tokens: int = 0
    """The tokens that were heard so far."""
    faults: list[str] = attrs.field(factory=list)
    stopping: bool = False

    async def run(self, url: str) -> None:
        """Asks until `stopping`, or until the connection is cut."""
        host, _, port = url.removeprefix("http://").partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        try:
            async with stream:
                for turn in itertools.count():
                    if self.stopping:
                        return
                    await self._ask(stream, f"client {self.number} turn {turn}")
        except (trio.BrokenResourceError, EOFError) as error:
            self.faults.append(f"client {self.number} was cut: {error!r}")

    async def _ask(self, stream: trio.SocketStream, prompt: str) -> None:
        body = json.dumps({"prompt": prompt, "stream": True, "max_tokens": TOKENS}).encode()
        head = b"POST /v1/generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        await stream.send_all(head + body)
        answer = b""
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            data = await stream.receive_some(65536)
            if not data:
                raise EOFError(f"after {len(answer)} bytes")
            self.heard_at.append(time.monotonic())
            answer += data
            self.tokens += data.count(b"event: token")
        found = unchunked(answer)
        if found != expected(prompt, found):
            self.faults.append(f"client {self.number} got a wrong answer: {found[-400:]!r}")
        self.answers += 1

    def silence_at(self, moment: float) -> float | None:
        """The time in which this client heard nothing around a moment; None if nothing was heard before or after."""
        after = next((at for at in self.heard_at if at > moment), None)
        before = [at for at in self.heard_at if at <= moment]
        return None if after is None or not before else after - before[-1]


def unchunked(answer: bytes) -> bytes:
    """The body of a response in chunks, without comments."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        body, rest = body + rest[:count], rest[count + 2 :]
    return b"".join(part + b"\n\n" for part in body.split(b"\n\n") if part and not part.startswith(b":"))


def expected(prompt: str, found: bytes) -> bytes:
    """What the answer must be. Only the request's id is taken from the answer itself."""
    request_id = found.partition(b'"id":"')[2].partition(b'"')[0].decode()
    base = sequence_hash(prompt, None)
    events = ["retry: 1000\n\n"]
    for seq in range(1, TOKENS + 1):
        data = json.dumps({"id": request_id, "seq": seq, "text": token_of(base, seq).text}, separators=(",", ":"))
        events.append(f"id: {seq}\nevent: token\ndata: {data}\n\n")
    prompt_tokens = mock_prompt_tokens(prompt)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": TOKENS,
        "total_tokens": prompt_tokens + TOKENS,
        "cached_tokens": 0,
    }
    end = {"id": request_id, "seq": TOKENS + 1, "finish_reason": "length", "usage": usage}
    events.append(f"id: {TOKENS + 1}\nevent: done\ndata: {json.dumps(end, separators=(',', ':'))}\n\n")
    return "".join(events).encode()


@contextlib.asynccontextmanager
async def streams(count: int, step_s: float) -> AsyncIterator[tuple[Cluster, list[Client]]]:
    """A cluster with clients that all stream. At the end, each client finishes its last answer."""
    settings = ClusterSettings(
        gateways=1,
        workers=1,
        model=f"mock:step_ms={int(step_s * 1000)},slots={count + 8}",
        settings={"keeper": True, "max_queued": 10_000},
        start_s=90.0,
    )
    async with Cluster(settings) as cluster:
        await wait_answers(cluster.gateway_urls[0])
        clients = [Client(number) for number in range(count)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.run, cluster.gateway_urls[0])
                await trio.sleep(_STAGGER_S / count)  # their answers begin and end at different times
            yield cluster, clients
            for client in clients:
                client.stopping = True


async def wait_answers(url: str) -> None:
    """Waits until the gateway knows its worker."""
    async with httpx.AsyncClient() as http:
        while (await http.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.1)


async def wait_status(pid: int, before: KeeperStatus | None = None) -> KeeperStatus:
    """Waits until a gateway serves and another one is warm, both other ones than before."""
    while True:
        found = status_of(pid)
        if found and found.active and found.standby and (before is None or found.active != before.active):
            return found
        await trio.sleep(0.02)


def cpu_s(pid: int) -> float:
    """The CPU time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def strikes(count: int, kills: int, upgrades: int, step_s: float) -> bool:
    """Prints the pauses of kills and of upgrades. Returns whether every byte was right."""
    pauses: dict[str, list[float]] = {"kill -9": [], "upgrade": []}
    costs_ms: list[float] = []
    async with streams(count, step_s) as (cluster, clients):
        pid = cluster.gateways[0].pid
        for kind in ["kill -9"] * kills + ["upgrade"] * upgrades:
            before = await wait_status(pid)
            await trio.sleep(2.0)
            moment, cpu_before = time.monotonic(), cpu_s(before.standby)
            if kind == "upgrade":
                os.kill(pid, signal.SIGUSR2)
                while (status := status_of(pid)) and status.takeovers == before.takeovers:  # noqa: ASYNC110
                    await trio.sleep(0.002)
                moment = time.monotonic()
            else:
                os.kill(before.active, signal.SIGKILL)
            await trio.sleep(1.0)
            if kind == "kill -9":
                first = cpu_s(before.standby) - cpu_before
                await trio.sleep(1.0)
                usual = cpu_s(before.standby) - cpu_before - first
                costs_ms.append((first - usual) / count * 1000)
            await trio.sleep(2.0)
            found = [pause for client in clients if (pause := client.silence_at(moment)) is not None]
            pauses[kind] += [max(0.0, pause - step_s) for pause in found]
            print(f"{kind}: longest pause {max(found, default=0) * 1000:.0f} ms, {len(found)} streams", flush=True)
            await wait_status(pid, before)
    for kind, found in pauses.items():
        if found:
            ordered = sorted(found)
            p50, p99 = statistics.median(ordered), ordered[int(0.99 * len(ordered))]
            text = f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"
            print(f"{kind} at {count} streams: {text}, {len(found)} pauses")
    if costs_ms:
        print(f"CPU of a takeover for each stream: {statistics.median(costs_ms):.2f} ms (median of {len(costs_ms)})")
    return told(clients)


def told(clients: list[Client]) -> bool:
    """Prints what the clients got, and returns whether all was right."""
    faults = [fault for client in clients for fault in client.faults]
    answers, tokens = (sum(getattr(client, name) for client in clients) for name in ("answers", "tokens"))
    print(f"{answers} answers with {tokens} tokens; {len(faults)} faults")
    for fault in faults[:10]:
        print(f"  {fault}")
    return not faults


async def memory(count: int, *, keeper: bool) -> dict[str, float]:
    """The memory for each idle connection, in bytes, by process."""
    settings = ClusterSettings(gateways=1, workers=1, settings={"keeper": keeper}, start_s=90.0)
    async with Cluster(settings) as cluster:
        pid = cluster.gateways[0].pid
        pids = {"gateway": pid}
        if keeper:
            pids = {"keeper": pid, "gateway": (await wait_status(pid)).active}
        host, _, port = cluster.gateway_urls[0].removeprefix("http://").partition(":")
        sizes: list[dict[str, int]] = []
        async with contextlib.AsyncExitStack() as stack:
            for part in range(2):  # the first part warms up
                for _ in range(count if part else 50):
                    await stack.enter_async_context(await trio.open_tcp_stream(host, int(port)))
                await trio.sleep(2.0)
                sizes.append({name: psutil.Process(each).memory_info().rss for name, each in pids.items()})
        return {name: (sizes[1][name] - sizes[0][name]) / count for name in pids}


def costs(rounds: int, seconds: float) -> bool:
    """Prints what a keeper costs. Returns whether every load could be measured."""
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench(client_core=cores[-1] if len(cores) > 1 else None)
    # A new connection costs the keeper as much as fifty tokens: answers as long as those of `steady` in `bench.run`.
    paced = attrs.evolve(WORKLOADS["paced"], max_tokens=100, turn_s=2.0)
    comparisons = [Comparison(CLUSTER, workload) for workload in (paced, WORKLOADS["saturate"])]
    without, with_keeper = (
        Revision(f"{word} a keeper", "the working tree", ROOT, {"keeper": word == "with"})
        for word in ("without", "with")
    )
    compare(bench, (without, with_keeper), comparisons, rounds=rounds, seconds=seconds)
    print(report(comparisons, (without, with_keeper)))
    for keeper in (False, True):
        sizes = trio.run(partial(memory, 800, keeper=keeper))
        text = ", ".join(f"{name} {size / 1024:.1f} KiB" for name, size in sizes.items())
        print(f"memory for each idle connection, {'with' if keeper else 'without'} a keeper: {text}")
    return not any(each.errors for each in comparisons)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--upgrades", type=int, default=5)
    parser.add_argument("--step-ms", type=int, default=100)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    chosen = parser.parse_args()
    if chosen.costs:
        is_right = costs(chosen.rounds, chosen.seconds)
    else:
        is_right = trio.run(strikes, chosen.streams, chosen.kills, chosen.upgrades, chosen.step_ms / 1000)
    if not is_right:
        sys.exit(1)


if __name__ == "__main__":
    main()
