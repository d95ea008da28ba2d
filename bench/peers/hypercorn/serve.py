"""A bare endpoint on Hypercorn and Trio, both as shipped, without an access log."""

import json
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.peers.bare import HEADERS, Decoder, Receive, Runtime, Send, Stream, body_of
from bench.peers.work import Job, Model, arguments


class App:
    """The ASGI application."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # Hypercorn goes on without a lifespan if the application raises
            raise RuntimeError(f"this application has no {scope['type']}")
        job = Job.read(json.loads(await body_of(receive)))
        changed = trio.Event()

        def wake() -> None:
            changed.set()  # the event that `changed` names at the time of the call

        stream = Stream(job, wake)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
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
    decoder = Decoder(model, Runtime(trio.current_time, trio.sleep, trio.Event))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(decoder.run)
        await serve(App(decoder), config)  # type: ignore[arg-type]
        nursery.cancel_scope.cancel(reason="the server has ended")


def main() -> None:
    given = arguments("A bare endpoint on Hypercorn and Trio.")
    trio.run(run, given.model, given.bind)


if __name__ == "__main__":
    main()
