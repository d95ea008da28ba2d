"""A connection that an earlier gateway had, and that goes on here as if its client had just connected.

`continuation` decides from the journal, the newest record and the kernel's counters how it goes on:

- Nothing was written: the journal is served as if the client had just sent it.
- A whole response was begun: its last bytes are in the record.
- A part of a response was written: the rest of the record is written. If the response has a note (`answer_note`) that
  the application takes up, the application goes on behind where the record brought the client. Else the application
  gets the journal again, and its handler is told how far the client is (`HeldRequest.reached`). The handler renders
  what the client has and drops it, calls `HeldRequest.resume`, and goes on.
- A WebSocket is open: `held_websocket` says how it goes on.

A connection with which none of this works is cut, and the log says why.
"""

import contextlib
import math
import socket
from typing import Any, Protocol

import trio

from llmactors.http.answer_note import AnswerNote, stored_answer
from llmactors.http.connection import LINGER_S, ConnectionSettings, ServerConnection
from llmactors.http.continuation import HEAD_KEY, CannotGoOn, LeftBehind, Stage, go_on
from llmactors.http.held_connection import HeldServerConnection
from llmactors.http.held_request import HeldRequest
from llmactors.http.held_websocket import HeldWebSocket, LeftWebSocket
from llmactors.http.inbox import Application
from llmactors.http.keeper_link import GivenConnection, KeeperLink
from llmactors.http.protocol_settings import Address, ProtocolSettings
from llmactors.http.tcp_position import is_closed, taken, written
from llmactors.http.throttle import BurstThrottle
from llmactors.http.write_records import COMPLETE, INTERIM, LARGE, SOCKET, WriteRecord, stored_records


class HeldApplication(Protocol):
    """An application that leaves notes of its answers, and goes on by those of an earlier process."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def take_up(self, begun: AnswerNote, reached: bytes, client: Address) -> Application | None:
        """Returns what sends the rest of an answer, behind where `reached` says; None where its request is needed."""
        ...


class TakenServerConnection(HeldServerConnection):
    """Goes on with a connection that the keeper gave to an earlier gateway before."""

    __slots__ = (
        *("_age_s", "_begun", "_given", "_gone", "_head_is_dropped", "_left_websocket", "_repeated_to", "_request"),
        *("_left_to_do", "_reads_journal", "_take_up"),
    )

    def __init__(
        self,
        app: HeldApplication,
        protocol: ProtocolSettings,
        given: GivenConnection,
        settings: ConnectionSettings,
        throttle: BurstThrottle,
        link: KeeperLink,
    ) -> None:
        super().__init__(app, protocol, given, settings, throttle, link)
        self._given = given
        self._take_up = app.take_up
        self._gone = False
        """Whether the client has left while no gateway had the connection."""
        self._repeated_to = 0
        """The input position behind everything that an earlier gateway may have handled."""
        self._age_s = 0.0
        """How long ago the client began to send what the journal has, if that is the next request or a part of it."""
        self._head_is_dropped = False
        self._begun: AnswerNote | None = None
        """The note of the response of which a part was written."""
        self._left_websocket: LeftWebSocket | None = None
        self._request: HeldRequest
        self._reads_journal = True
        """Whether the journal is not read again yet."""
        self._left_to_do = 1
        """How many of these are left: reading the journal, and writing the rest of the newest record. Until then the
        connection is not idle, even if no request has begun here."""

    # Where the connection stands.

    def _can_go_on(self) -> bool:
        try:
            return self._take_over()
        except (CannotGoOn, OSError) as error:
            self.give_up(str(error))
            return False

    def _take_over(self) -> bool:
        """Brings this object to where the connection stands. Returns False where there is nothing left to do."""
        given = self._given
        journal = self._journal.read_left(given)
        given.journal.clear()
        records = stored_records(self._slots, self._slot)
        if records and records[0].flags & LARGE:
            records[0] = records[0]._replace(data=given.large.get(records[0].generation, b""))
        given.large.clear()
        newest = records[0] if records and records[0].begin >= self._journal.base_out else None
        self._gone = is_closed(self._raw)
        if self._gone and (newest is None or not newest.flags & SOCKET):
            self._ahead = journal
            self._in = self._repeated_to = self._journal.end
            return newest is None or not newest.flags & COMPLETE  # else its last answer was whole
        self._continue(journal, records)
        return True

    def _continue(self, journal: bytes, records: list[WriteRecord]) -> None:
        """Goes on from the newest record. Raises `CannotGoOn`, or `OSError` where the client has left."""
        given, kept = self._given, self._journal
        if self._gone:
            position = records[0].begin + records[0].length, kept.end  # nobody can know, or needs to
        else:
            position = written(self._raw), taken(self._raw)
        left = LeftBehind(kept.request_at, journal, kept.base_out, records, *position, given.notes)
        how = go_on(left)
        self._throw_away(how.untaken)
        self._ahead, self._rest, self._stage, self._generation = how.journal, how.rest, how.stage, how.generation
        self._in = self._repeated_to = kept.end
        self._out = left.written + len(how.rest)
        kept.needs_record = bool(how.rest)
        if how.is_websocket:
            head = given.notes.pop(HEAD_KEY)
            self._left_websocket = LeftWebSocket(head, given.notes, how.journal_at, self._in, how.reached)
            return
        self.reached = how.reached
        if how.stage is Stage.BEGUN:
            self._begun = stored_answer(self._slots, self._slot, kept.request_at)
        if how.journal_at > kept.request_at:
            kept.trim_to(how.journal_at, how.base_out)
        elif how.journal:
            self._age_s = kept.age_s

    def _addresses(self) -> tuple[Address, Address]:
        return (None, None) if self._gone else super()._addresses()

    def _give_up_on_vanished(self) -> None:
        """Does nothing: the option stays with the socket."""

    # How it goes on.

    def drain(self) -> None:
        """As for every connection, once nothing is left to do."""
        if not self._left_to_do:
            super().drain()

    def _note_done(self) -> None:
        self._left_to_do -= 1
        if self._idle and not self._left_to_do:
            ServerConnection.set_idle(self, idle=True)  # from here on

    async def _read(self) -> None:
        self._write_rest_nowait()
        self._reading.deadline = math.inf
        if self._stage is Stage.ENDS:
            await self._end_slowly()
        elif self._left_websocket is not None:
            self._mute = self._gone
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.write_rest)
                await self._enter()
                await self._protocol.received(self._left_websocket.head)
                if not self._gone:
                    await super()._read()
            if self._gone:
                await self._protocol.received(self._ahead)
        elif self._gone:
            # The application learns of a client that is gone, so that it ends what nobody waits for.
            journal, self._ahead = self._ahead, b""
            await self._protocol.received(journal)
        elif self._rest:
            self._left_to_do += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_left)
                await self._go_on()
        else:
            await self._go_on()

    def _write_rest_nowait(self) -> None:
        """Sends as much of the newest record as the socket takes: that waits for nobody."""
        if self._rest:
            self._rest = self._rest[self._write_now(self._rest) :]
            if not self._rest and not self._mute:
                self._journal.record_is_written()

    async def _write_left(self) -> None:
        await self.write_rest()
        self._note_done()

    async def _go_on(self) -> None:
        """Goes on with the response that is under way, by its note or else by its request."""
        begun, self._begun = self._begun, None
        if begun is not None:
            rest = await self._take_up(begun, self._request.reached or b"", self._protocol.client)
            if rest is not None and not self._mute:
                self._ahead = self._ahead[begun.next_at - self._journal.request_at :]
                self._protocol.go_on(begun, rest)
        await super()._read()

    async def _end_slowly(self) -> None:
        """Ends a connection whose last response is recorded."""
        await self.write_rest()
        self._mute = True
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)
        if self._left_websocket is not None and self._ahead:
            # What the client asked for before the end is done, though it hears no reply.
            await self._protocol.received(self._left_websocket.head)
            await self._protocol.received(self._ahead)
        self._reading.deadline = trio.current_time() + LINGER_S
        while await self._receive():
            pass

    async def _receive(self) -> bytes:
        if self._gone:
            return await ServerConnection._receive(self)  # noqa: SLF001 - what is not read from the journal is not kept
        if self._reads_journal and self._stage is not Stage.ENDS:
            self._reads_journal = False
            self._note_done()
        if self._age_s and self._idle:
            self._reading.deadline -= self._age_s  # a part of a head: another gateway gives it no more time
        self._age_s = 0.0
        return await super()._receive()

    # Requests that an earlier gateway may have handled.

    def set_idle(self, *, idle: bool) -> None:
        """As for every connection."""
        if not idle and self._in > self._repeated_to and self._protected:
            self._request.is_repeated = False  # its head was not complete, so no gateway handled it
        super().set_idle(idle=idle)

    def _forget_answered(self) -> None:
        if self._stage is not Stage.ENDS and self._left_websocket is None:
            super()._forget_answered()

    def _next_request(self) -> HeldRequest:
        reached = None
        if self._stage is Stage.BEGUN:
            reached = b"%d" % self.reached if isinstance(self.reached, int) else self.reached
        else:
            self.reached = b""
        at = self._journal.request_at
        self._request = HeldRequest(self, f"{self._origin}:{at}", at < self._repeated_to, reached, age_s=self._age_s)
        return self._request

    def begin_websocket(self, head: bytes) -> HeldWebSocket:
        """Serves frames from here on, if the handshake with this head is accepted."""
        left = self._left_websocket
        if left is None:
            return super().begin_websocket(head)
        self._websocket = HeldWebSocket(self._link, self._cid, self._origin, left.frames_at, left)
        return self._websocket

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone or has them already."""
        must_write = self._stage is Stage.NOTHING or self._mute or not self._protected
        if must_write or not self._is_written(data, self._protocol.progress):
            await super().write(data)

    def _is_written(self, data: bytes, flags: int) -> bool:
        """Whether the client has these bytes, which an application made that handles its request again."""
        if flags & INTERIM:
            return True
        if self._stage is Stage.SOCKET and flags & SOCKET:
            self._stage = Stage.NOTHING  # the client has the response to its handshake
            return True
        if self._stage is Stage.INTERIM:
            self._stage = Stage.NOTHING
            return False
        if flags & COMPLETE or (data and self._head_is_dropped):
            self.give_up("its answer cannot be continued")
        self._head_is_dropped = True
        return True
