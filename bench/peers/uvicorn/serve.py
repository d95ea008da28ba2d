"""A bare uvicorn endpoint: how fast this stack can stream at all, with no framework, queue or ledger behind it.

uvloop and httptools, no access log, no lifespan. One task makes the steps for all streams; what a stream has ready goes
out in one send. It validates nothing and bounds nothing.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench.peers.work import Job, Model, Pace, Slots, Stream, arguments


class Decoder:
    """Makes the steps for all streams."""

    def __init__(self, model: Model) -> None:
        self._step_s = model.step_s
        self._slots = Slots(model.slots)
        self._arrived = asyncio.Event()

    def add(self, stream: Stream) -> None:
        self._slots.add(stream)
        self._arrived.set()

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        pace = Pace(self._step_s, clock())
        while True:
            while not self._slots.fill():
                self._arrived.clear()
                await self._arrived.wait()
                pace = Pace(self._step_s, clock())
            await asyncio.sleep(pace.wait_s(clock()))
            self._slots.step()


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
        changed = asyncio.Event()
        stream = Stream(Job.read(json.loads(body)), changed.set)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._decoder.add(stream)
        more = True
        while more:
            await changed.wait()
            changed.clear()
            data, more = stream.take()
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
