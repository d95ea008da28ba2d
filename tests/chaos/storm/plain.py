"""Clients that read each answer on one connection, and never connect again for it."""

import random
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from llmactors.testing.checker import mock_answer
from llmactors.testing.event_socket import CutError, EventSocket, StreamEvent
from llmactors.testing.history import RequestHistory

_PAUSE_S = 0.3
_WHOLE_S = 120.0
"""No fault of a storm, and no two of them, hold a stream for so long."""


class PlainClients:
    """Such clients, from `run` until `stop`. Each sees its whole answer, or is refused before it begins."""

    def __init__(self, urls: Callable[[], Sequence[str]], count: int, tokens: int, seed: int) -> None:
        self.answers = 0
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Answers that ended with an error of the ledger, by its code."""
        self.cuts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._urls = urls
        self._count = count
        self._tokens = tokens
        self._seed = seed
        self._stopping = False

    def __repr__(self) -> str:
        return f"<PlainClients {self.answers} answers, {self.cuts.total()} cuts>"

    async def run(self) -> None:
        """Runs the clients until `stop`, and then until their answers have ended."""
        async with trio.open_nursery() as nursery:
            for number in range(self._count):
                nursery.start_soon(self._client, number, random.Random(f"plain client {number} of {self._seed}"))

    def stop(self) -> None:
        """Stops new requests."""
        self._stopping = True

    async def _client(self, number: int, rng: random.Random) -> None:
        count = 0
        while not self._stopping:
            count += 1
            request = RequestHistory(f"plain {self._seed}/{number}/{count}", 1, self._tokens, 0.0)
            try:
                with trio.fail_after(_WHOLE_S):
                    await self._ask(rng.choice(self._urls()), request)
            except CutError as error:
                self.cuts[f"{error}, behind {'a head' if request.id else 'nothing'}"] += 1
            except trio.TooSlowError:
                self.wrong.append(f"{request!r} did not end within {_WHOLE_S:g} s")
            await trio.sleep(rng.uniform(0.0, _PAUSE_S))

    async def _ask(self, url: str, request: RequestHistory) -> None:
        body = {"prompt": request.prompt, "seed": request.seed, "max_tokens": request.max_tokens, "stream": True}
        async with await EventSocket.open(url, "POST", "/v1/generate", body=body) as answer:
            if answer.status != 200:
                self.refused[str(answer.status)] += 1
                return
            request.id = answer.headers["x-request-id"]
            seen = [event for event in await self._all(answer) if event.name != "queued"]
        texts = [event.text for event in seen if event.name == "token"]
        end = seen[-1] if seen else None
        if end is not None and end.error is not None and end.seq is not None:
            self.failures[str(end.error.get("code"))] += 1
        elif end is None or end.name != "done":
            self.cuts[f"an answer without its end: {end}"] += 1
        elif texts != [*mock_answer(request)] or [event.seq for event in seen] != [*range(1, len(texts) + 2)]:
            self.wrong.append(f"{request!r}: {[event.seq for event in seen]} {texts}")
        elif {event.id for event in seen} != {request.id}:
            self.wrong.append(f"{request!r} has events of others")
        else:
            self.answers += 1

    async def _all(self, answer: EventSocket) -> list[StreamEvent]:
        found: list[StreamEvent] = []
        while events := await answer.events():
            found += events
        return found
