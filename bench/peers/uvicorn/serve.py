"""A bare endpoint on uvicorn, with uvloop and httptools, without an access log and without a lifespan.

Its figures are the limit of this stack, since no framework, queue or ledger is behind the endpoint.
"""

import asyncio
import json
import time
from typing import Any

import uvicorn

from bench.peers.bare import HEADERS, Decoder, Receive, Runtime, Send, Stream, body_of
from bench.peers.work import Job, Model, arguments


class App:
    """The ASGI application."""

    def __init__(self, model: Model) -> None:
        self._decoder = Decoder(model, Runtime(time.monotonic, asyncio.sleep, asyncio.Event))
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._decoder.run())
        assert scope["type"] == "http"
        job = Job.read(json.loads(await body_of(receive)))
        changed = asyncio.Event()
        stream = Stream(job, changed.set)
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        self._decoder.add(stream)
        more = True
        while more:
            await changed.wait()
            changed.clear()
            data, more = stream.take()
            await send({"type": "http.response.body", "body": data, "more_body": more})


def main() -> None:
    given = arguments("A bare endpoint on uvicorn.")
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
