"""The origin's worker: takes a batch off the list and decodes it, publishing token by token.

What it holds is known to nobody else.
"""

import asyncio
import contextlib
import json
import logging
from typing import Any

import redis.asyncio
import uvloop

from bench.peers.origin.gateway import CHANNEL, QUEUE
from bench.peers.work import Job, Model, Pace, token_text

RETRY_S = 0.2
POLL_S = 0.001

log = logging.getLogger("origin")


async def work(url: str, model: Model) -> None:
    """For ever. An error drops the batch, and the next one is taken."""
    client: Any = redis.asyncio.Redis.from_url(url)
    while True:
        try:
            if batch := await _take(client, model):
                await _decode(client, model, batch)
        except redis.RedisError as error:
            log.warning("batch dropped: %r", error)
            await asyncio.sleep(RETRY_S)


async def _take(client: Any, model: Model) -> list[Job]:
    """One job at least, and those that come within the window."""
    if (first := await client.blpop([QUEUE], timeout=1)) is None:
        return []
    clock = asyncio.get_running_loop().time
    until = clock() + model.window_s
    jobs = [first[1]]
    while (room := model.slots - len(jobs)) and clock() < until:
        if more := await client.lpop(QUEUE, room):
            jobs += more
        else:
            await asyncio.sleep(POLL_S)
    bodies = [json.loads(job) for job in jobs]
    return [Job.read(body, body["id"]) for body in bodies]


async def _decode(client: Any, model: Model, batch: list[Job]) -> None:
    clock = asyncio.get_running_loop().time
    pace = Pace(model.step_s, clock())
    seq = 0
    while batch:
        seq += 1
        await asyncio.sleep(pace.wait_s(clock()))
        for job in batch:
            await _publish(client, job, "token", seq, text=token_text(job.base, seq))
            if seq == job.max_tokens:
                usage = {"completion_tokens": seq}
                await _publish(client, job, "done", seq + 1, finish_reason="length", usage=usage)
        batch = [job for job in batch if seq < job.max_tokens]


async def _publish(client: Any, job: Job, event: str, seq: int, **more: object) -> None:
    await client.publish(CHANNEL + job.id, json.dumps({"event": event, "id": job.id, "seq": seq, **more}))


def run(url: str, model: Model, name: str) -> None:
    """Works until a signal."""
    print(f"llmactors-origin worker {name} serves mock", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(work(url, model))
