"""The design that llmactors replaces, rebuilt small: RPUSH a job, BLPOP a batch, PUBLISH token by token, DONE.

It speaks llmactors' HTTP and answers as the mock does, so that the same clients and the same checker can be pointed at
it. What it lacks it lacks by design: no lease, no log, no way to follow a stream again.

    python -m bench.origin gateway --redis URL --bind HOST:PORT
    python -m bench.origin worker --redis URL --model mock:step_ms=20,slots=64
"""

import argparse
import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import redis
import redis.asyncio

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.backends.mock.settings import MockSettings

QUEUE = "llm:queue"
REQUEST_S = 60.0
"""A gateway waits so long for the next message of a request."""
RETRY_S = 0.2

log = logging.getLogger("origin")


class Gateway:
    """Each request is a job in a list and a subscription to a channel of its own."""

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.Redis.from_url(url)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = head.lower().partition("content-length: ")[2].split("\r\n")[0]
            body = await reader.readexactly(int(length or 0))
            if head.startswith("POST /v1/generate "):
                await self._generate(json.loads(body), writer)
            else:
                await _refuse(writer, "404 Not Found", "NOT_FOUND")
        writer.close()

    async def _generate(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        request_id = uuid.uuid4().hex
        job = {key: body.get(key) for key in ("prompt", "seed", "max_tokens")}
        async with self._redis.pubsub() as pubsub:
            try:
                await pubsub.subscribe(f"llm:stream:{request_id}")
                await self._redis.rpush(QUEUE, json.dumps({"id": request_id, **job}))
            except redis.RedisError:
                await _refuse(writer, "503 Service Unavailable", "UNAVAILABLE")
                return
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
                b"X-Request-Id: %b\r\n\r\n" % request_id.encode()
            )
            try:
                async with asyncio.timeout(REQUEST_S):
                    async for event in _events(pubsub):
                        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                        await writer.drain()
                writer.write(b"0\r\n\r\n")
                await writer.drain()
            except (redis.RedisError, TimeoutError) as error:
                log.warning("stream %s: %r", request_id, error)


async def _events(pubsub: Any) -> AsyncIterator[bytes]:
    async for message in pubsub.listen():
        if message["type"] == "message":
            payload = json.loads(message["data"])
            name = payload.pop("event")
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (payload["seq"], name.encode(), json.dumps(payload).encode())
            if name != "token":
                return


async def _refuse(writer: asyncio.StreamWriter, status: str, code: str) -> None:
    body = json.dumps({"error": {"code": code}})
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nRetry-After: 1\r\n\r\n{body}".encode())
    await writer.drain()


async def gateway(url: str, bind: str, name: str) -> None:
    host, _, port = bind.rpartition(":")
    server = await asyncio.start_server(Gateway(url).serve, host, int(port), backlog=1024)
    at = server.sockets[0].getsockname()
    print(f"llmactors-origin gateway {name} on http://{at[0]}:{at[1]}", flush=True)
    async with server:
        await server.serve_forever()


class Worker:
    """Takes up to `slots` jobs off the list and decodes them side by side; what it holds is known to nobody else."""

    def __init__(self, url: str, settings: MockSettings) -> None:
        self._redis = redis.Redis.from_url(url)
        self._settings = settings

    def run(self) -> None:
        """For ever. An error drops the batch, and the next one is taken."""
        while True:
            try:
                self._decode(self._take())
            except redis.RedisError as error:
                log.warning("batch dropped: %r", error)
                time.sleep(RETRY_S)

    def _take(self) -> list[dict[str, Any]]:
        first: Any = self._redis.blpop([QUEUE], timeout=1)
        if first is None:
            return []
        more: Any = self._redis.lpop(QUEUE, self._settings.slots - 1) or []
        return [json.loads(job) for job in (first[1], *more)]

    def _decode(self, batch: list[dict[str, Any]]) -> None:
        bases = {job["id"]: sequence_hash(job["prompt"], job["seed"]) for job in batch}
        seq = 0
        while batch:
            seq += 1
            begun = time.monotonic()
            for job in batch:
                self._publish(job, "token", seq, text=token_of(bases[job["id"]], seq).text)
                if seq >= job["max_tokens"]:
                    usage = {"completion_tokens": seq}
                    self._publish(job, "done", seq + 1, finish_reason="length", usage=usage)
            batch = [job for job in batch if seq < job["max_tokens"]]
            time.sleep(max(0.0, self._settings.step_ms / 1e3 - (time.monotonic() - begun)))

    def _publish(self, job: dict[str, Any], event: str, seq: int, **more: object) -> None:
        payload = {"event": event, "id": job["id"], "seq": seq, **more}
        self._redis.publish(f"llm:stream:{job['id']}", json.dumps(payload))


def main() -> None:
    parser = argparse.ArgumentParser(description="The origin's design, for comparison.")
    parser.add_argument("role", choices=["gateway", "worker"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--name", default="origin")
    parser.add_argument("--bind", default="127.0.0.1:8000")
    parser.add_argument("--model", default="mock:step_ms=20,slots=64")
    parser.add_argument("--metrics-bind", help="taken and ignored: it has no metrics")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with contextlib.suppress(KeyboardInterrupt):
        if given.role == "gateway":
            asyncio.run(gateway(given.redis, given.bind, given.name))
        else:
            worker = Worker(given.redis, MockSettings.parse(given.model.partition(":")[2]))
            print(f"llmactors-origin worker {given.name} serves mock", flush=True)
            worker.run()


if __name__ == "__main__":
    main()
