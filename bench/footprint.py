"""Measure what a request costs in Redis: bytes of memory, of the append-only file and on the network.

    python -m bench.footprint

Answers of two lengths are measured. Their difference is the cost of the additional tokens, and the rest is the cost of
the request itself.
"""

import argparse
from typing import Any

import attrs
import trio

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.ledger import AppendEntry, LedgerSettings
from llmactors.ledger.redis import RedisLedger
from llmactors.messages import Finished, GenerateRequest, Usage
from llmactors.testing.redis_server import redis_server

STEPS = (16, 256)
"""The two lengths of an answer in tokens. Each token is appended by itself, as a worker does while it decodes."""


@attrs.frozen
class Footprint:
    """Bytes of all requests together."""

    memory: int
    file: int
    received: int
    sent: int


async def run(requests: int, prompt_chars: int, length: int) -> Footprint:
    """Measure requests with answers of `length` tokens on a fresh Redis server."""
    with redis_server() as server, server.client() as client:
        async with trio.open_nursery() as nursery:
            gateway = RedisLedger(server.url, LedgerSettings(max_queued=requests, max_queued_bytes=2**30))
            worker = RedisLedger(server.url)
            await nursery.start(gateway.run)
            await nursery.start(worker.run)
            before: Any = client.info()
            for number in range(requests):
                prompt = f"{number} ".ljust(prompt_chars, "x")
                await gateway.submit(GenerateRequest(f"{number:022}", "m", prompt, max_tokens=length))
            await worker.beat("w")
            claims = await worker.claim("w", "m", requests)
            assert len(claims) == requests
            for seq in range(1, length + 1):
                end = Finished("length", Usage(8, length)) if seq == length else None
                await worker.append(
                    [
                        AppendEntry(
                            claim.request.id,
                            claim.epoch,
                            seq,
                            (token_of(sequence_hash(claim.request.prompt, None), seq),),
                            end,
                        )
                        for claim in claims
                    ]
                )
            after: Any = client.info()
            nursery.cancel_scope.cancel(reason="the measurement is complete")
    return Footprint(
        memory=after["used_memory_dataset"] - before["used_memory_dataset"],
        file=after["aof_current_size"] - before["aof_current_size"],
        received=after["total_net_input_bytes"] - before["total_net_input_bytes"],
        sent=after["total_net_output_bytes"] - before["total_net_output_bytes"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a request costs in Redis.")
    parser.add_argument("--requests", type=int, default=200, help="number of requests [200]")
    parser.add_argument("--prompt-chars", type=int, default=200, help="length of each prompt [200]")
    given = parser.parse_args()
    short, long = (trio.run(run, given.requests, given.prompt_chars, length) for length in STEPS)
    title = f"bytes of {given.requests} requests with prompts of {given.prompt_chars} characters, for each"
    print(f"{title:62} {'request':>12} {'token':>8}")
    for field in attrs.fields(Footprint):
        low, high = getattr(short, field.name), getattr(long, field.name)
        token = (high - low) / given.requests / (STEPS[1] - STEPS[0])
        request = low / given.requests - STEPS[0] * token
        print(f"  {field.name:60} {request:12,.0f} {token:8,.1f}")


if __name__ == "__main__":
    main()
