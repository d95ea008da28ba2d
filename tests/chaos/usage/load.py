"""Clients whose requests end in every other way: by a cancel, by a deadline, and because nobody reads them."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from llmactors.testing.event_socket import CutError, EventSocket


class EndingClients:
    """Sends one request after another until `stop`, each of which ends in a way drawn by `rng`."""

    def __init__(self, urls: Callable[[], Sequence[str]], api_key: str, rng: random.Random) -> None:
        self.ways: Counter[str] = Counter()
        """How many requests were to end in each way."""
        self._urls = urls
        self._headers = {"X-API-Key": api_key}
        self._rng = rng
        self._stopping = False

    async def run(self, clients: int) -> None:
        """Runs so many clients at once."""
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._client)

    def stop(self) -> None:
        """Lets each client end after its present request."""
        self._stopping = True

    async def _client(self) -> None:
        while not self._stopping:
            way = self._rng.choice(("cancelled", "late", "left", "queued for long"))
            with contextlib.suppress(CutError, trio.TooSlowError):
                with trio.fail_after(5):
                    await self._request(way)
            await trio.sleep(self._rng.uniform(0.02, 0.2))

    async def _request(self, way: str) -> None:
        headers = dict(self._headers)
        body = {"prompt": f"{way} {self._rng.random()}", "max_tokens": 200, "stream": True}
        if way == "late":
            headers["X-Request-Deadline"] = str(int(time.time() * 1000) + self._rng.randrange(100, 1500))
        if way == "queued for long":
            body["priority"] = 2
        url = self._rng.choice(self._urls())
        exchange = await EventSocket.open(url, "POST", "/v1/generate", body=body, headers=headers)
        async with exchange:
            if exchange.status != 200:
                return
            self.ways[way] += 1
            with trio.move_on_after(self._rng.uniform(0.0, 1.0)):
                while await exchange.events():
                    pass
            if way in {"cancelled", "queued for long"}:
                path = f"/v1/streams/{exchange.headers['x-request-id']}"
                again = await EventSocket.open(url, "DELETE", path, headers=self._headers)
                async with again:
                    pass
