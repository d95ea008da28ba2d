"""Requests of a client that comes back through another gateway, until it has its answer."""

import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import trio

from bench.soak.tally import Tally
from llmactors.http.client import ClientSettings, HttpClient, WholeResponse
from llmactors.http.client_errors import HttpClientError
from llmactors.http.client_response import ClientResponse
from llmactors.http.sse_reader import BadEventStream, SseEvent, SseReader

PATIENCE_S = 60.0
"""For how long a client asks again before its request counts as lost."""
SILENCE_S = 10.0
_ONE_REQUEST = ClientSettings(max_idle=0)
CUTS = (HttpClientError, trio.TooSlowError, BadEventStream)
"""The errors of a connection that breaks or falls silent."""


@attrs.frozen
class Asker:
    """What the clients of one form share."""

    urls: Callable[[], Sequence[str]]
    """The addresses of the gateways, whether they are up or not."""
    tally: Tally
    rng: random.Random

    def url(self) -> str:
        """The address of any gateway."""
        return self.rng.choice(self.urls())

    async def open(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Ask any gateway once. Raises one of `CUTS`."""
        client = HttpClient(self.url(), settings=_ONE_REQUEST)
        data = b"" if body is None else msgspec.json.encode(body)
        with trio.fail_after(SILENCE_S):
            return await client.open(method, path, data, list((headers or {}).items()))

    async def whole(
        self, kind: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> WholeResponse | None:
        """Ask until a whole answer comes that is no error that passes; None if none comes within `PATIENCE_S`."""
        pause_s = 0.1
        with trio.move_on_after(PATIENCE_S):
            while True:
                try:
                    async with await self.open(method, path, body, headers) as response:
                        with trio.fail_after(PATIENCE_S / 2):
                            answer = WholeResponse(response.status, response.headers, await response.read())
                except CUTS:
                    self.tally.cuts[kind] += 1
                else:
                    if answer.status < 400:
                        return answer
                    self.tally.refuse(kind, answer.status, error_code(answer.body))
                    if answer.status not in {429, 503}:
                        return answer
                await trio.sleep(pause_s * self.rng.uniform(0.5, 1.5))
                pause_s = min(2.0, 2 * pause_s)
        return None


def error_code(body: bytes) -> str:
    """The code in the body of an error, native or of OpenAI's routes; empty if there is none."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeError):
        answer: Any = msgspec.json.decode(body)
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            return str(answer["error"].get("code", ""))
    return ""


async def events(response: ClientResponse) -> AsyncGenerator[SseEvent, None]:
    """The events of a stream as they come. Raises one of `CUTS`.

    Close the iterator with `contextlib.aclosing` if it is not read to its end.
    """
    reader = SseReader()
    while True:
        with trio.fail_after(SILENCE_S):
            piece = await response.receive()
        if not piece:
            return
        for event in reader.feed(piece):
            yield event
