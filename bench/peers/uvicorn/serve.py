"""A bare uvicorn endpoint: how fast this stack can stream at all, with no framework, queue or ledger behind it.

uvloop and httptools, no access log, no lifespan. One task makes the steps for all streams; what a stream has ready goes
out in one send. It validates nothing and bounds nothing.
"""

import asyncio
import collections
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench.peers.work import Job, Model, Pace, arguments, events


class Stream:
    """One request: what was made and not yet sent."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seq = 0
        self.ready: list[str] = []
        self.changed = asyncio.Event()

    def advance(self) -> bool:
        """One token more; False with the last one."""
        self.seq += 1
        self.ready.append(events(self.job, self.seq))
        self.changed.set()
        return self.seq < self.job.max_tokens


class Decoder:
    """Steps all streams side by side, and lets others in as soon as a slot is free."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._waiting: collections.deque[Stream] = collections.deque()
        self._running: list[Stream] = []
        self._arrived = asyncio.Event()

    def add(self, stream: Stream) -> None:
        self._waiting.append(stream)
        self._arrived.set()

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        pace = Pace(self._model.step_s, clock())
        while True:
            self._admit()
            if not self._running:
                self._arrived.clear()
                await self._arrived.wait()
                self._admit()
                pace = Pace(self._model.step_s, clock())
            await asyncio.sleep(pace.wait_s(clock()))
            self._running = [stream for stream in self._running if stream.advance()]

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._model.slots:
            self._running.append(self._waiting.popleft())


class App:
    """The ASGI application."""

    def __init__(self, model: Model) -> None:
        self._decoder = Decoder(model)
        self._task: asyncio.Task[None] | None = None

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._decoder.run())
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        stream = Stream(Job.read(json.loads(body)))
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._decoder.add(stream)
        more = True
        while more:
            await stream.changed.wait()
            stream.changed.clear()
            more = stream.seq < stream.job.max_tokens
            data = "".join(stream.ready).encode()
            stream.ready.clear()
            await send({"type": "http.response.body", "body": data, "more_body": more})


def main() -> None:
    given = arguments("A bare uvicorn endpoint.")
    uvicorn.run(
        App(given.model),  # type: ignore[arg-type]
        host=given.host,
        port=given.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
