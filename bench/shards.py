"""What several Redis servers bring: requests for each second of CPU of the busiest server, on one and on three.

    python -m bench.shards --requests 3000 --rounds 2

Gateway, worker and servers share the machine, so that the time of the run says nothing. A server that does half the
work for a request allows twice the requests, once it has a core of its own: so CPU is the yardstick. Requests are
submitted, claimed, written in `APPENDS` appends and ended, by one process that is gateway and workers at once. As a
batcher does, a worker writes the tokens of all its requests every `STEP_S`, and claims for free slots beside that. For
each server there are as many clients and workers, as there are with so many times the requests.

Below each figure is what was called: the calls of each kind for a request, and how much an append and a claim had.
"""

import argparse
import contextlib
import statistics
from collections import Counter
from typing import Any, Self

import attrs
import msgspec
import trio

from llmactors.http.request_id import new_request_id
from llmactors.ledger import AppendEntry, Claim, Ledger, LedgerSettings
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.redis.functions import LedgerFunctions
from llmactors.ledger.sharded import ShardedLedger
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.testing.redis_server import RedisServer

APPENDS = 4
TOKENS = 4
"""How many tokens one append has of each request."""
STEP_S = 0.2
"""How long a step takes. The tokens of one step are written with one append."""
BEAT_S = 5.0
WORKERS = 2
SLOTS = 32
"""As many as the load needs: with more, one of two workers on one server takes all requests, and they go in step."""
TENANTS = 100
GATEWAY_TASKS = 64
BOUNDS = LedgerSettings(lease_s=600.0, max_queued=100_000)
QUIET = RedisLedgerSettings(look_for_work_s=30.0, silence_s=60.0, gateway_lease_s=600.0, call_timeout_s=60.0)
"""Without what is done by the clock, which costs the same for any number of requests."""


def cpu_s(server: RedisServer) -> float:
    """The CPU that a server has used, in seconds."""
    with server.client() as client:
        found = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


class Calls:
    """Counts the calls of functions in Redis, while it is a context manager."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._call = call = LedgerFunctions.call

        async def counted(functions: LedgerFunctions, operation: str, *parts: Any) -> Any:
            reply = await call(functions, operation, *parts)
            self.counts[operation] += 1
            if operation == "append":
                self.counts["entries"] += len(msgspec.msgpack.decode(parts[1])) // 7
            if operation == "claim":
                self.counts["claims"] += sum(isinstance(each, list) for each in reply)
            return reply

        LedgerFunctions.call = counted  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *exc: object) -> None:
        LedgerFunctions.call = self._call  # type: ignore[method-assign]

    def text(self, requests: int) -> str:
        """What was called, for each request."""
        portions = {"entries": self.counts.pop("entries"), "claims": self.counts.pop("claims")}
        each = ", ".join(f"{name} {count / requests:.3f}" for name, count in sorted(self.counts.items()))
        return (
            f"{each}; {portions['entries'] / self.counts['append']:.1f} entries in an append, "
            f"{portions['claims'] / self.counts['claim']:.1f} requests in a claim"
        )


@attrs.define(eq=False)
class Worker:
    """A worker, which runs its requests in steps."""

    name: str
    ledger: Ledger
    running: dict[str, tuple[Claim, int]] = attrs.field(factory=dict)
    """The claims by the ids of their requests, and how many appends each had."""
    freed: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Claims and writes until cancelled."""
        await self.ledger.beat(self.name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            nursery.start_soon(self._claim)
            nursery.start_soon(self._write)

    async def _beat(self) -> None:
        while True:
            await trio.sleep(BEAT_S)
            await self.ledger.beat(self.name)

    async def _claim(self) -> None:
        while True:
            free = SLOTS - len(self.running)
            if not free:
                self.freed = trio.Event()
                await self.freed.wait()
                continue
            claims = await self.ledger.claim(self.name, "m", free)
            self.running.update((claim.request.id, (claim, 0)) for claim in claims)
            if len(claims) < free:
                await self.ledger.wait_work(self.name, "m")

    async def _write(self) -> None:
        while True:
            await trio.sleep(STEP_S)
            entries = []
            for claim, number in list(self.running.values()):
                first = 1 + number * TOKENS
                deltas = tuple(TokenDelta(seq, " token") for seq in range(first, first + TOKENS))
                end = Finished("stop", Usage(5, APPENDS * TOKENS)) if number == APPENDS - 1 else None
                entries.append(AppendEntry(claim.request.id, claim.epoch, first, deltas, end))
                self.running[claim.request.id] = claim, number + 1
            if entries:
                await self.ledger.append(entries)
            for entry in entries:
                if entry.end is not None:
                    del self.running[entry.request_id]
            self.freed.set()


async def serve(ledger: Ledger, scale: int, requests: int) -> None:
    """Has so many requests served."""
    left = requests

    async def submit() -> None:
        nonlocal left
        while left:
            left -= 1
            request = GenerateRequest(
                new_request_id(), "m", "a prompt of some words", tenant=f"tenant {left % TENANTS}", max_tokens=64
            )
            await ledger.submit(request)
            with await ledger.follow(request.id) as follower:
                await follower.wait_end()

    async with trio.open_nursery() as workers:
        for number in range(scale * WORKERS):
            workers.start_soon(Worker(f"worker-{number}/m#1", ledger).run)
        async with trio.open_nursery() as gateway:
            for _ in range(scale * GATEWAY_TASKS):
                gateway.start_soon(submit)
        workers.cancel_scope.cancel(reason="all requests have ended")


async def measure(servers: int, requests: int) -> tuple[float, float, str]:
    """Requests for each second of CPU of the busiest server, and of all servers together; and what was called."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(RedisServer()) for _ in range(servers)]
        parts = [
            RedisLedger(server.url, BOUNDS, QUIET, shard=(number, servers)) for number, server in enumerate(running)
        ]
        ledger = parts[0] if servers == 1 else ShardedLedger(parts, BOUNDS)
        async with trio.open_nursery() as nursery:
            for part in parts:
                await nursery.start(part.run)
            if isinstance(ledger, ShardedLedger):
                await nursery.start(ledger.run)
            await serve(ledger, servers, requests // 10)
            before = [cpu_s(server) for server in running]
            with Calls() as calls:
                await serve(ledger, servers, requests)
            used = [cpu_s(server) - earlier for server, earlier in zip(running, before, strict=True)]
            nursery.cancel_scope.cancel(reason="the run is over")
    return requests / max(used), requests / sum(used), calls.text(requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[int, list[tuple[float, float, str]]] = {1: [], arguments.servers: []}
    for _ in range(arguments.rounds):
        for servers, rates in found.items():
            rates.append(trio.run(measure, servers, arguments.requests))
            print(
                f"{servers} servers: {rates[-1][0]:.0f} requests for a second of the busiest, {rates[-1][1]:.0f} of all"
            )
            print(f"    calls for a request: {rates[-1][2]}")
    one, many = (statistics.median(rate for rate, *_ in rates) for rates in found.values())
    print(f"{arguments.servers} servers allow {many / one:.2f} times the requests of one")


if __name__ == "__main__":
    main()
