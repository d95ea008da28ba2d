"""What a model, a request and a token take of memory: the figures of the handbook's page on sizing.

`python -m bench.sizing redis` measures the bytes that Redis keeps for a request and for a token, and `python -m
bench.sizing model` the memory of the default model by slots and context.
"""

import sys
import time

import psutil
import redis
import trio

from llmactors.ledger import AppendEntry, LedgerSettings
from llmactors.ledger.redis import RedisLedger
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import redis_server

REQUESTS = 200
TOKENS = 100
PROMPT = "word " * 100
SLOTS = (1, 4, 8)
CONTEXTS = (2048, 8192)


async def _measure_redis(url: str) -> dict[str, float]:
    """Bytes of Redis: a waiting request, a running one, and a token that is appended alone or with seven others."""
    found: dict[str, float] = {}
    client = redis.Redis.from_url(url)

    def used() -> int:
        return int(client.info("memory")["used_memory"])

    for together in (1, 8):
        ledger = RedisLedger(url, LedgerSettings(retention_s=3600))
        async with trio.open_nursery() as nursery:
            await nursery.start(ledger.run)
            await ledger.beat("w#1")
            empty = used()
            for number in range(REQUESTS):
                request = GenerateRequest(f"r{together}-{number}", "m", PROMPT, max_tokens=TOKENS)
                await ledger.submit(request)
            waiting = used()
            claims = [claim for _ in range(REQUESTS) for claim in await ledger.claim("w#1", "m", 1)]
            running = used()
            for first in range(1, TOKENS + 1, together):
                tokens = [TokenDelta(1000 + each, " word") for each in range(together)]
                await ledger.append([AppendEntry(each.request.id, each.epoch, first, tokens) for each in claims])
            written = used()
            made = sum(len(range(1, TOKENS + 1, together)) * together for _ in claims)
            for claim in claims:
                await ledger.finish(claim.request.id, claim.epoch, Finished("length", Usage(100, TOKENS)))
            ended = used()
            found[f"waiting request, prompt of {len(PROMPT)} characters"] = (waiting - empty) / REQUESTS
            found["running request, beside that"] = (running - waiting) / REQUESTS
            found[f"token, {together} in an append"] = (written - running) / made
            found["ended request, beside that"] = (ended - written) / REQUESTS
            nursery.cancel_scope.cancel()
    return found


def _measure_model() -> None:
    """Prints the resident memory of the node and of the model's process for each number of slots and each context."""
    print("| slots | context | node | model, started | model, after answers in all slots |\n|---|---|---|---|---|")
    for context in CONTEXTS:
        for slots in SLOTS:
            flags = ("--slots", str(slots), "--context", str(context), "--bind", "127.0.0.1:0")
            with NodeProcess("serve", "--model", "smollm2-135m", *flags) as node:
                url = node.wait_ready()
                process = psutil.Process(node.process.pid)
                started = _of_children(process)
                trio.run(_use_all_slots, url, slots)
                time.sleep(0.5)
                sizes = [process.memory_info().rss, started, _of_children(process)]
                print(f"| {slots} | {context} | {' | '.join(map(_mb, sizes))} |", flush=True)
                node.stop()


async def _use_all_slots(url: str, slots: int) -> None:
    import httpx  # noqa: PLC0415 - only this measurement needs a client

    body = {"prompt": "Write a long story.", "max_tokens": 64, "temperature": 0.8}
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client, trio.open_nursery() as nursery:

        async def ask(seed: int) -> None:
            (await client.post("/v1/generate", json={**body, "seed": seed})).raise_for_status()

        for seed in range(slots):
            nursery.start_soon(ask, seed)


def _of_children(process: psutil.Process) -> int:
    return sum(child.memory_info().rss for child in process.children(recursive=True))


def _mb(size: int) -> str:
    return f"{round(size / 2**20)} MiB"


def main(what: str) -> None:
    """Prints the figures of one kind."""
    if what == "redis":
        with redis_server() as server:
            for name, value in trio.run(_measure_redis, server.url).items():
                print(f"{name}: {value:.0f} bytes")
    else:
        _measure_model()


if __name__ == "__main__":
    main(sys.argv[1])
