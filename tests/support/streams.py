"""A client that reads a stream, continues a stream that was cut, and checks every event."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import h11
import trio

from llmactors.http.sse_reader import SseEvent, SseReader
from tests.support.raw_http import RawExchange

CUTS = (OSError, trio.BrokenResourceError, h11.RemoteProtocolError)
"""The exceptions that a client gets from a cut connection."""


class BrokenStreamError(AssertionError):
    """A stream broke its promise: it has a gap, a repeated event, two ends or none."""


class StreamRefusedError(Exception):
    """A request was answered with an error instead of a stream."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.answer = answer


@attrs.define(eq=False)
class StreamRecord:
    """Everything that one client saw of one stream, over one or more connections."""

    id: str = ""
    texts: list[str] = attrs.field(factory=list)
    end: dict[str, Any] | None = None
    """The payload of the terminal event."""
    queued: list[dict[str, Any]] = attrs.field(factory=list)
    """The payloads of the events that told the client its place in the queue."""
    end_event: str = ""
    """`done` or `error`."""

    @property
    def text(self) -> str:
        """The text of the answer so far."""
        return "".join(self.texts)

    @property
    def last_seq(self) -> int:
        """The seq of the last event seen."""
        return len(self.texts) + (self.end is not None)

    def add(self, event: SseEvent) -> None:
        """Records the next event. Raises `BrokenStreamError` if another event should have come."""
        payload = json.loads(event.data)
        if self.end is not None:
            raise BrokenStreamError(f"{self.id}: {event} came after the end")
        if payload["id"] != self.id:
            raise BrokenStreamError(f"{self.id}: {event} belongs to another stream")
        if "seq" in payload and not payload["seq"] == int(event.id or 0) == self.last_seq + 1:
            raise BrokenStreamError(f"{self.id}: {event} came after seq {self.last_seq}")
        if event.name == "token":
            self.texts.append(payload["text"])
        elif event.name == "queued":
            assert event.id is None, "an event that is in no log must not move `Last-Event-ID`"
            self.queued.append(payload)
        else:
            self.end, self.end_event = payload, event.name


async def follow(url: str, body: dict[str, Any], record: StreamRecord) -> AsyncGenerator[SseEvent, None]:
    """Reads one connection: begins the stream of `body`, or continues the stream of `record`. Yields recorded events.

    Raises `StreamRefusedError`, or one of `CUTS`. To leave early, close the generator (`contextlib.aclosing`).
    """
    if record.id:
        headers = {"last-event-id": str(record.last_seq)}
        exchange = await RawExchange.open(url, "GET", f"/v1/streams/{record.id}", headers=headers)
    else:
        exchange = await RawExchange.open(url, "POST", "/v1/generate", body={**body, "stream": True})
    async with exchange:
        if exchange.status != 200:
            raise StreamRefusedError(exchange.status, await exchange.read_json())
        record.id = exchange.headers["x-request-id"]
        reader = SseReader()
        while piece := await exchange.read():
            for event in reader.feed(piece):
                record.add(event)
                yield event


async def read_stream(url: str, body: dict[str, Any], record: StreamRecord | None = None) -> StreamRecord:
    """Reads a whole stream, or the rest of the stream of `record`, over one connection.

    Raises `BrokenStreamError` if the stream ends without a terminal event.
    """
    record = record or StreamRecord()
    async with contextlib.aclosing(follow(url, body, record)) as events:
        async for _ in events:
            pass
    if record.end is None:
        raise BrokenStreamError(f"{record.id}: the connection ended after seq {record.last_seq}, without an end")
    return record


async def read_until(url: str, body: dict[str, Any], seq: int) -> StreamRecord:
    """Reads a stream up to `seq`, and then closes the connection."""
    record = StreamRecord()
    async with contextlib.aclosing(follow(url, body, record)) as events:
        async for _ in events:
            if record.last_seq >= seq:
                break
    return record


async def read_stubbornly(url: str, body: dict[str, Any], record: StreamRecord | None = None) -> StreamRecord:
    """Reads a whole stream over as many connections as necessary, with `Last-Event-ID` after each cut."""
    record = record or StreamRecord()
    while record.end is None:
        with contextlib.suppress(*CUTS):
            return await read_stream(url, body, record)
        await trio.sleep(0.01)
    return record
