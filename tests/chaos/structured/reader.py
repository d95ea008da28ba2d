"""One client, which follows its stream at another gateway when its own gateway dies."""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import httpx
import trio

from tests.chaos.structured.cases import PATHS, Case, Event

_OF_ONE_REQUEST = {"id", "item_id", "call_id", "created", "created_at", "completed_at", "model"}
"""The fields of events that differ between two requests with the same answer."""
_PING = {"type": "ping"}
_REPLAY_S = 240
"""How long the replays of all streams may take, in seconds."""
_PAUSE_S = 0.05
"""How long a client waits before it asks the next gateway, in seconds."""


@attrs.define(eq=False)
class Reader:
    """The client of one case."""

    case: Case
    model: str
    key: str
    """The idempotency key of the request, by which another gateway finds it."""
    urls: Sequence[str]
    at: int
    """The place in `urls` of the gateway that is asked."""
    request_id: str = ""
    events: list[Event] = attrs.field(factory=list)
    resumed: int = 0
    """How often the stream was followed at another gateway."""
    done: bool = False
    problems: list[str] = attrs.field(factory=list)

    async def run(self, http: httpx.AsyncClient) -> None:
        """Reads until the stream has ended, at as many gateways as necessary."""
        while not self.done and not self.problems:
            try:
                await self._follow(http)
            except httpx.TransportError:
                self.at = (self.at + 1) % len(self.urls)
                self.resumed += bool(self.events)
                await trio.sleep(_PAUSE_S)

    async def replay(self, http: httpx.AsyncClient) -> None:
        """Asks the next gateway for the whole stream, which has to be equal."""
        again = attrs.evolve(self, at=(self.at + 1) % len(self.urls), events=[], done=False, problems=[])
        with trio.move_on_after(_REPLAY_S):
            await again.run(http)
        if again.problems or not again.done:
            self.problems.append(f"the replay did not end: {again.problems}, {len(again.events)} events")
        elif again.events != self.events:
            self.problems.append("another gateway sends another stream")

    def plain_events(self) -> list[Any]:
        """The events without what differs between two requests with the same answer."""
        return [_without_names(event) for event in self.events]

    async def _follow(self, http: httpx.AsyncClient) -> None:
        url, body = self.urls[self.at], {**self.case.body, "model": self.model, "stream": True}
        if self.case.api == "responses" and self.events:
            name, after = self.events[0]["response"]["id"], self.events[-1]["sequence_number"]
            path = f"{url}/v1/responses/{name}?stream=true&starting_after={after}"
            asked = http.stream("GET", path)
            seen = len(self.events)
        else:
            headers = {"idempotency-key": self.key}
            asked = http.stream("POST", url + PATHS[self.case.api], json=body, headers=headers)
            seen = 0
        async with asked as answer:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                raise httpx.TransportError("the gateway knows no worker yet")
            if answer.status_code != httpx.codes.OK:
                self.problems.append(f"{answer.status_code}: {(await answer.aread()).decode()}")
                return
            self.request_id = answer.headers["x-request-id"]
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    self.done = True
                elif line.startswith("data: ") and not _is_empty(event := json.loads(line.removeprefix("data: "))):
                    self._take(seen, event)
                    seen += 1
                    self.done = _is_last(event)
        if not self.done:
            raise httpx.TransportError("the stream was cut between two events")

    def _take(self, place: int, event: Event) -> None:
        if "error" in event:
            self.problems.append(f"the stream has an error: {event['error']}")
        if place == len(self.events):
            self.events.append(event)
        elif self.events[place] != event:
            self.problems.append(f"event {place} differs at another gateway: {event} is not {self.events[place]}")


def _is_empty(event: Event) -> bool:
    """Whether an event only shows that the connection lives: a gateway sends one after a long silence."""
    if event == _PING:
        return True
    choices = event.get("choices", ())
    return any(choice["finish_reason"] is None and not any(choice["delta"].values()) for choice in choices)


def _is_last(event: Event) -> bool:
    kind = event.get("type", "")
    return kind == "message_stop" or kind in {f"response.{end}" for end in ("completed", "incomplete", "failed")}


def _without_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_names(each) for name, each in value.items() if name not in _OF_ONE_REQUEST}
    return [_without_names(each) for each in value] if isinstance(value, list) else value
