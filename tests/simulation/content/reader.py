"""One client of one call, which follows its answer at another gateway when its own gateway dies."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
import trio

from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import HttpClientError
from llmactors.http.client_response import ClientResponse
from llmactors.http.sse_reader import SseReader
from tests.simulation.content.cases import PATHS, Case

Event = dict[str, Any]

_ONE_REQUEST = ClientSettings(max_idle=0)
_SILENCE_S = 6.0
"""After how long without an event a client asks another gateway."""
_WHOLE_S = 20.0
"""After how long without a whole answer a client asks another gateway."""
_PAUSE_S = 0.4
_MOST_ERRORS = 6
"""An answer whose gateways give so many errors in a row has failed: an error of a log comes each time."""
_PASSING = {409, 429, 502, 503, 529}
"""The statuses after which the same call is made again: a gateway that starts or stops, or two calls at once."""


class _CutError(Exception):
    """The answer did not come to its end here."""


@attrs.define(eq=False)
class Reader:
    """The client of one call."""

    case: Case
    model: str
    key: str
    """The idempotency key of the call, by which another gateway finds its requests."""
    urls: Callable[[], Sequence[str]]
    rng: random.Random
    asker: HttpClient | None = None
    """What asks for an ordinary client, whose call is made once; None for a client that asks until it has its answer.
    """
    request_id: str = ""
    lanes: dict[str, list[Event]] = attrs.field(factory=dict)
    """The events of a stream, of each choice by itself: events of two choices may come in any order."""
    body: Any = None
    """A whole answer."""
    done: bool = False
    resumed: int = 0
    failure: str = ""
    """The code of the error with which the answer ended."""
    problems: list[str] = attrs.field(factory=list)
    _errors: int = 0

    def __repr__(self) -> str:
        return f"<Reader of {self.case.kind}, {'done' if self.done else 'open'}>"

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return bool(self.done or self.problems or self.failure)

    @property
    def events(self) -> list[Event]:
        """All events, those of one choice after those of the other."""
        return [event for lane in self.lanes.values() for event in lane]

    async def run(self) -> None:
        """Reads until the answer has ended, at as many gateways as necessary."""
        while not self.is_over:
            try:
                await self._ask(self.rng.choice(self.urls()))
            except (HttpClientError, trio.TooSlowError, _CutError) as error:
                if self.asker is not None and not self.failure:
                    self.problems.append(f"the answer was cut: {error!r}")
                    return
                self.resumed += bool(self.request_id)
                await trio.sleep(self.rng.uniform(0.02, _PAUSE_S))

    async def replay(self) -> None:
        """Makes the call again, whose answer has to be equal."""
        again = Reader(self.case, self.model, self.key, self.urls, self.rng)
        await again.run()
        if again.failure or again.problems:
            self.problems.append(f"the second answer: {again.failure} {again.problems}")
        elif (again.request_id, again.lanes, again.body) != (self.request_id, self.lanes, self.body):
            self.problems.append("the second answer differs from the first")

    async def _ask(self, url: str) -> None:
        client = self.asker or HttpClient(url, settings=_ONE_REQUEST)
        if self.case.api == "responses" and self.lanes and self.rng.random() < 0.5:
            created, last = self.lanes[""][0], self.lanes[""][-1]
            query = f"?stream=true&starting_after={last['sequence_number']}"
            method, path, body = "GET", f"/v1/responses/{created['response']['id']}{query}", b""
            seen = {"": len(self.lanes[""])}
        else:
            fields = {**self.case.body, "model": self.model}
            fields |= {"stream": True} if self.case.streamed else {}
            method, path, body = "POST", PATHS[self.case.api], msgspec.json.encode(fields)
            seen = {}
        headers = [("anthropic-version", "2023-06-01")]
        headers += [] if self.asker else [("idempotency-key", self.key)]
        with trio.fail_after(_WHOLE_S):
            response = await client.open(method, path, body, headers)
        try:
            if response.status != 200:
                await self._refused(response)
            self._named(response.headers["x-request-id"])
            if self.case.streamed:
                await self._follow(response, seen)
            else:
                with trio.fail_after(_WHOLE_S):
                    self.body = msgspec.json.decode(await response.read())
                self.done = True
        finally:
            response.close()

    def _named(self, request_id: str) -> None:
        if self.request_id and request_id != self.request_id:
            self.problems.append(f"the call was {self.request_id}, and then {request_id}")
        self.request_id = request_id

    async def _refused(self, response: ClientResponse) -> None:
        with trio.fail_after(_SILENCE_S):
            text = await response.read()
        if response.status in _PASSING:
            raise _CutError(f"status {response.status}: {text!r}")
        self._fail(f"{response.status} {_code_of(msgspec.json.decode(text))}")
        raise _CutError

    async def _follow(self, response: ClientResponse, seen: dict[str, int]) -> None:
        sse = SseReader()
        while True:
            with trio.fail_after(_SILENCE_S):
                piece = await response.receive()
            if not piece:
                break
            for found in sse.feed(piece):
                if found.data == b"[DONE]":
                    self.done = True
                    continue
                event: Event = msgspec.json.decode(found.data)
                if self.case.api == "native":
                    event["event"] = found.name
                if self._is_error(event):
                    self._fail(_code_of(event))
                    raise _CutError
                if not _is_empty(event):
                    self._take(seen, event)
        if not self.done:
            raise _CutError

    def _take(self, seen: dict[str, int], event: Event) -> None:
        if self.done and "choices" not in event:
            self.problems.append(f"an event after the end: {event}")
        lane = _lane_of(event)
        known, place = self.lanes.setdefault(lane, []), seen.get(lane, 0)
        seen[lane] = place + 1
        if place == len(known):
            known.append(event)
            self._errors = 0
        elif known[place] != event:
            self.problems.append(f"event {place} differs at another gateway: {event} is not {known[place]}")
        self.done = self.done or _is_last(event)

    def _is_error(self, event: Event) -> bool:
        return "error" in event or event.get("type") in {"error", "response.failed"}

    def _fail(self, code: str) -> None:
        """Notes an error. The gateway may have said it of this connection alone, so the call is made again."""
        self._errors += 1
        if self._errors >= _MOST_ERRORS:
            self.failure = code


def _code_of(event: Event) -> str:
    error = event.get("error") or (event.get("response") or {}).get("error") or event
    return str(error.get("code") or error.get("type") or error)


def _lane_of(event: Event) -> str:
    choices = event.get("choices")
    return "" if choices is None else str(choices[0]["index"]) if choices else "usage"


def _is_empty(event: Event) -> bool:
    """Whether an event only shows that the connection lives, or tells a place in the queue."""
    if event.get("type") == "ping" or event.get("event") == "queued":
        return True
    return any(
        choice["finish_reason"] is None
        and not choice.get("logprobs")
        and not (any(choice["delta"].values()) if "delta" in choice else choice["text"])
        for choice in event.get("choices", ())
    )


def _is_last(event: Event) -> bool:
    kind = event.get("type", "")
    return (
        kind == "message_stop"
        or event.get("event") == "done"
        or kind in {f"response.{end}" for end in ("completed", "incomplete")}
    )
