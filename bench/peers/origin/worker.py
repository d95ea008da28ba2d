"""The worker of the original design: takes a batch of jobs from the list, and publishes their tokens one by one.

No other process knows which jobs a worker has taken, so a worker that dies loses them.
"""

import asyncio
import contextlib
import json
import logging
from typing import Any

import redis.asyncio
import uvloop

from bench.peers.origin.gateway import CHANNEL, QUEUE
from bench.peers.work import Job, Model, StepSchedule, token_text

RETRY_S = 0.2
POLL_S = 0.001

log = logging.getLogger("origin")


async def work(url: str, model: Model) -> None:
    """Decode batches for ever. An error of Redis drops the current batch."""
    client: Any = redis.asyncio.Redis.from_url(url)
    while True:
        try:
            if batch := await _take(client, model):
                await _decode(client, model, batch)
        except redis.RedisError as error:
            log.warning("batch dropped: Redis failed with %r", error)
            await asyncio.sleep(RETRY_S)


async def _take(client: Any, model: Model) -> list[Job]:
    """The first job, and the jobs that arrive within the window after it. Empty if no job came within a second."""
    if (first := await client.blpop([QUEUE], timeout=1)) is None:
        return []
    clock = asyncio.get_running_loop().time
    until = clock() + model.window_s
    jobs = [first[1]]
    while (free := model.slots - len(jobs)) and clock() < until:
        if more := await client.lpop(QUEUE, free):
            jobs += more
        else:
            await asyncio.sleep(POLL_S)
    bodies = [json.loads(job) for job in jobs]
    return [Job.read(body, body["id"]) for body in bodies]


async def _decode(client: Any, model: Model, batch: list[Job]) -> None:
    clock = asyncio.get_running_loop().time
    schedule = StepSchedule(model.step_s, clock())
    seq = 0
    while batch:
        seq += 1
        await asyncio.sleep(schedule.wait_s(clock()))
        for job in batch:
            await _publish(client, job, "token", seq, text=token_text(job.base, seq))
            if seq == job.max_tokens:
                usage = {"completion_tokens": seq}
                await _publish(client, job, "done", seq + 1, finish_reason="length", usage=usage)
        batch = [job for job in batch if seq < job.max_tokens]


async def _publish(client: Any, job: Job, event: str, seq: int, **more: object) -> None:
    await client.publish(CHANNEL + job.id, json.dumps({"event": event, "id": job.id, "seq": seq, **more}))


def run(url: str, model: Model, name: str) -> None:
    """Work until a signal arrives."""
    print(f"llmactors-origin worker {name} serves mock", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(work(url, model))
