"""What several Redis servers bring: requests for each second of CPU of the busiest server, on one and on three.

    python -m bench.shards --requests 3000 --rounds 2

Gateway, worker and servers share the machine, so that the time of the run says nothing. A server that does half the
work for a request allows twice the requests, once it has a core of its own: so CPU is the yardstick. Requests are
submitted, claimed, written in `APPENDS` appends and ended, by one process that is gateway and workers at once. For each
server there are as many clients and workers, as there are with so many times the requests.
"""

import argparse
import contextlib
import statistics
from collections.abc import Sequence

import trio

from llmactors.http.request_id import new_request_id
from llmactors.ledger import AppendEntry, Claim, Ledger, LedgerSettings
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.ledger.sharded import ShardedLedger
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.testing.redis_server import RedisServer

APPENDS = 4
TOKENS = 4
"""How many tokens one append has of each request."""
WORKERS = 2
SLOTS = 64
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


async def serve(ledger: Ledger, scale: int, requests: int) -> None:  # noqa: C901 - all roles of a cluster in one place
    """Has so many requests served."""
    left = requests
    ended = 0

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

    async def work(worker: str) -> None:
        nonlocal ended
        await ledger.beat(worker)
        while True:
            claims = await ledger.claim(worker, "m", SLOTS)
            if claims:
                await write(claims)
            if len(claims) < SLOTS:
                await ledger.wait_work(worker, "m")

    async def write(claims: Sequence[Claim]) -> None:
        for number in range(APPENDS):
            first = 1 + number * TOKENS
            deltas = tuple(TokenDelta(seq, " token") for seq in range(first, first + TOKENS))
            last = number == APPENDS - 1
            end = Finished("stop", Usage(5, APPENDS * TOKENS)) if last else None
            await ledger.append([AppendEntry(claim.request.id, claim.epoch, first, deltas, end) for claim in claims])

    async with trio.open_nursery() as workers:
        for number in range(scale * WORKERS):
            workers.start_soon(work, f"worker {number}#1")
        async with trio.open_nursery() as gateway:
            for _ in range(scale * GATEWAY_TASKS):
                gateway.start_soon(submit)
        workers.cancel_scope.cancel(reason="all requests have ended")


async def measure(servers: int, requests: int) -> tuple[float, float]:
    """Requests for each second of CPU of the busiest server, and of all servers together."""
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
            await serve(ledger, servers, requests)
            used = [cpu_s(server) - earlier for server, earlier in zip(running, before, strict=True)]
            nursery.cancel_scope.cancel(reason="the run is over")
    return requests / max(used), requests / sum(used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--servers", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[int, list[tuple[float, float]]] = {1: [], arguments.servers: []}
    for _ in range(arguments.rounds):
        for servers, rates in found.items():
            rates.append(trio.run(measure, servers, arguments.requests))
            print(
                f"{servers} servers: {rates[-1][0]:.0f} requests for a second of the busiest, {rates[-1][1]:.0f} of all"
            )
    one, many = (statistics.median(rate for rate, _ in rates) for rates in found.values())
    print(f"{arguments.servers} servers allow {many / one:.2f} times the requests of one")


if __name__ == "__main__":
    main()
