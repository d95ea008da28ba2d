"""A bare endpoint on Hypercorn and Trio, as both are shipped.

No access log. One task makes the steps for all streams; what a stream has ready goes out in one send. It validates
nothing and bounds nothing.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.peers.work import Job, Model, Pace, Slots, Stream, arguments


class Decoder:
    """Makes the steps for all streams."""

    def __init__(self, model: Model) -> None:
        self._step_s = model.step_s
        self._slots = Slots(model.slots)
        self._arrived = trio.Event()

    def add(self, stream: Stream) -> None:
        self._slots.add(stream)
        self._arrived.set()

    async def run(self) -> None:
        pace = Pace(self._step_s, trio.current_time())
        while True:
            while not self._slots.fill():
                self._arrived = trio.Event()
                await self._arrived.wait()
                pace = Pace(self._step_s, trio.current_time())
            await trio.sleep(pace.wait_s(trio.current_time()))
            self._slots.step()


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
        changed = trio.Event()

        def wake() -> None:
            changed.set()  # the one that is waited for by then

        stream = Stream(Job.read(json.loads(body)), wake)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._decoder.add(stream)
        more = True
        while more:
            await changed.wait()
            changed = trio.Event()
            data, more = stream.take()
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
