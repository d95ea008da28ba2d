"""A bare endpoint on Hypercorn and Trio, as both are shipped: the stack that llmactors' gateway is made of.

No access log. One task makes the steps for all streams; what a stream has ready goes out in one send. It validates
nothing and bounds nothing.
"""

import collections
import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.peers.work import Job, Model, Pace, arguments, events


class Stream:
    """One request: what was made and not yet sent."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.seq = 0
        self.ready: list[str] = []
        self.changed = trio.Event()

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
        self._arrived = trio.Event()

    def add(self, stream: Stream) -> None:
        self._waiting.append(stream)
        self._arrived.set()

    async def run(self) -> None:
        pace = Pace(self._model.step_s, trio.current_time())
        while True:
            self._admit()
            if not self._running:
                self._arrived = trio.Event()
                await self._arrived.wait()
                self._admit()
                pace = Pace(self._model.step_s, trio.current_time())
            await trio.sleep(pace.wait_s(trio.current_time()))
            self._running = [stream for stream in self._running if stream.advance()]

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._model.slots:
            self._running.append(self._waiting.popleft())


class App:
    """The ASGI application."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":  # without a lifespan
            raise RuntimeError(scope["type"])
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
            stream.changed = trio.Event()
            more = stream.seq < stream.job.max_tokens
            data = "".join(stream.ready).encode()
            stream.ready.clear()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def run(model: Model, bind: str) -> None:
    config = Config()
    config.bind = [bind]
    config.accesslog = None
    config.loglevel = "WARNING"
    decoder = Decoder(model)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        await serve(App(decoder), config)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel(reason="the server has ended")


def main() -> None:
    given = arguments("A bare endpoint on Hypercorn and Trio.")
    trio.run(run, given.model, given.bind)


if __name__ == "__main__":
    main()
