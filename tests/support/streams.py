"""A client that reads a stream as a real one does, takes it up again where it was cut, and checks what it reads."""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import h11
import trio

from llmactors.cli.sse import Event, EventParser
from tests.support.raw_http import RawExchange

CUTS = (OSError, trio.BrokenResourceError, h11.RemoteProtocolError)
"""What a cut connection looks like to a client."""


class BrokenStreamError(AssertionError):
    """A stream broke its promise: a gap, a repeat, two ends, or none."""


class StreamRefusedError(Exception):
    """The request was answered with an error before any stream began."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {answer}")
        self.status = status
        self.answer = answer


@attrs.define(eq=False)
class StreamRecord:
    """All that one client saw of one stream, over however many connections."""

    id: str = ""
    texts: list[str] = attrs.field(factory=list)
    end: dict[str, Any] | None = None
    """The payload of the terminal event."""
    end_event: str = ""
    """`done` or `error`."""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self.texts)

    @property
    def last_seq(self) -> int:
        """The seq of the last event seen."""
        return len(self.texts) + (self.end is not None)

    def add(self, event: Event) -> None:
        """Takes the next event. Raises `BrokenStreamError` if it is not the one that must come next."""
        payload = json.loads(event.data)
        if self.end is not None:
            raise BrokenStreamError(f"{self.id}: {event} came after the end")
        if payload["id"] != self.id:
            raise BrokenStreamError(f"{self.id}: {event} belongs to another stream")
        if "seq" in payload and not payload["seq"] == int(event.id) == self.last_seq + 1:
            raise BrokenStreamError(f"{self.id}: {event} came after seq {self.last_seq}")
        if event.name == "token":
            self.texts.append(payload["text"])
        else:
            self.end, self.end_event = payload, event.name


async def follow(url: str, body: dict[str, Any], record: StreamRecord) -> AsyncGenerator[Event, None]:
    """One connection: begins the stream of `body`, or takes up `record`'s. Yields each event once it is recorded.

    Raises `StreamRefusedError`, or one of `CUTS`. Close it (`contextlib.aclosing`) to be a client that goes away.
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
        parser = EventParser()
        while piece := await exchange.read():
            for event in parser.feed(piece):
                record.add(event)
                yield event


async def read_stream(url: str, body: dict[str, Any], record: StreamRecord | None = None) -> StreamRecord:
    """A whole stream, or the rest of `record`'s, over one connection.

    Raises `BrokenStreamError` if it ends without a terminal event.
    """
    record = record or StreamRecord()
    async with contextlib.aclosing(follow(url, body, record)) as events:
        async for _ in events:
            pass
    if record.end is None:
        raise BrokenStreamError(f"{record.id}: the connection ended after seq {record.last_seq}, without an end")
    return record


async def read_until(url: str, body: dict[str, Any], seq: int) -> StreamRecord:
    """The beginning of a stream, whose client goes away once it has seen `seq`."""
    record = StreamRecord()
    async with contextlib.aclosing(follow(url, body, record)) as events:
        async for _ in events:
            if record.last_seq >= seq:
                break
    return record


async def read_stubbornly(url: str, body: dict[str, Any], record: StreamRecord | None = None) -> StreamRecord:
    """A whole stream over as many connections as it takes: a cut one is taken up again by `Last-Event-ID`."""
    record = record or StreamRecord()
    while record.end is None:
        with contextlib.suppress(*CUTS):
            return await read_stream(url, body, record)
        await trio.sleep(0.01)
    return record
