"""A client's connection that outlives this process: the keeper holds a copy of the socket, and a later gateway goes on.

Two rules make that exact. What the client sends is journalled before it is taken out of the kernel's buffer: in the
connection's slot of the shared memory or, if it is long, at the keeper. And each write is recorded in shared memory
before it is made, with the bytes themselves, once everything before it was written. `continuation` decides from both,
and from the kernel's counters, how a later gateway goes on:

- Nothing was written: the journal is served as if the client had just sent it.
- A whole response was begun: its last bytes are in the record.
- A part of a response was written: the rest of the record is written, the application gets the journal again, and its
  handler is told where the record brought the client (`HeldRequest.reached`). The handler renders what the client has
  and drops it, calls `HeldRequest.resume`, and goes on.
- A WebSocket is open: `held_websocket` says how it goes on.

A connection with which none of this works is cut, and the log says why.
"""

import contextlib
import socket
import time

import structlog
import trio

from llmactors.http.connection import FAIR_EVERY, LINGER_S, READ_BYTES, ConnectionSettings, ServerConnection, chunk_of
from llmactors.http.continuation import HEAD_KEY, CannotGoOn, LeftBehind, Stage, go_on
from llmactors.http.held_request import HeldRequest
from llmactors.http.held_websocket import IGNORED, HeldWebSocket, LeftWebSocket
from llmactors.http.inbox import Application
from llmactors.http.keeper_link import JOURNALS_BYTES, GivenConnection, KeeperLink, memfd_of
from llmactors.http.protocol_settings import Address, ProtocolSettings
from llmactors.http.tcp_position import is_closed, taken, written
from llmactors.http.throttle import BurstThrottle
from llmactors.keeper.protocol import (
    BEGUN,
    CLOSE,
    COMPLETE,
    INTERIM,
    LARGE,
    RECORD_BYTES,
    SEQ,
    SOCKET,
    Done,
    Large,
    Trim,
    Unprotected,
    store_record,
    stored_records,
)
from llmactors.keeper.short_journal import SHORT_JOURNAL_BYTES, store_journal, stored_journal

log = structlog.get_logger("llmactors.http")

JOURNAL_BYTES = 16 * 1024 * 1024
"""The most bytes that the journal of one connection may have. Beyond that the connection is not protected."""
_SCRATCH = bytearray(READ_BYTES)
"""Where bytes go that were read before."""
_NOTHING = Stage.NOTHING
"""Read for each token, and an enum takes its time to find a member."""
_OF_TOKEN = BEGUN | SEQ


class HeldServerConnection(ServerConnection):
    """Serves the requests of one connection that the keeper holds."""

    # Python finds attributes slowly, and stores them in a kilobyte more, where an object has more than thirty others.
    __slots__ = (
        *(
            "_at_keeper",
            "_base_out",
            "_began_ms",
            "_cid",
            "_generation",
            "_given",
            "_given_journal_end",
            "_gone",
            "_has_large",
            "_kept_base_out",
            "_needs_record",
        ),
        *("_head_is_dropped", "_in", "_journal_generation", "_journaled", "_kept_from", "_left_websocket", "_link"),
        *("_out", "_protected", "_request", "_request_at", "_slot", "_slots", "_stage", "_untold", "_websocket"),
    )

    def __init__(
        self,
        app: Application,
        protocol: ProtocolSettings,
        given: GivenConnection,
        settings: ConnectionSettings,
        throttle: BurstThrottle,
        link: KeeperLink,
    ) -> None:
        super().__init__(app, protocol, given.socket, settings, throttle)
        told = given.told
        self._given = given
        self._link = link
        self._cid, self._slot, self._slots = told.cid, told.slot, link.slots
        self._protected = True
        self._request_at = self._in = self._journaled = told.journal_at
        """The input positions of the request that is under way, behind what was taken, and behind the journal."""
        self._out = told.base_out
        """The output position behind everything that was recorded."""
        self._base_out = told.base_out
        """The output position at which the response to the request that is under way begins."""
        self._untold = False
        """Whether the journal still has a request before that one."""
        self._needs_record = False
        """Whether the record of the response before is needed: its end is not written yet, and another gateway may have
        to go on with that. Nothing of the journal is forgotten until then."""
        self._kept_from, self._kept_base_out = told.journal_at, told.base_out
        """The input position of the first byte of the journal in the slot, and the output position of its response."""
        self._journal_generation = self._began_ms = 0
        self._at_keeper = False
        """Whether the journal is too long for the slot, and the keeper has it."""
        self._has_large = False
        """Whether the keeper holds a large record."""
        self._generation = 0
        self._stage = Stage.NOTHING
        """What of the response to the next request is written already, and must not be written again."""
        self._head_is_dropped = False
        self._gone = False
        """Whether the client has left while no gateway had the connection."""
        self._given_journal_end = 0
        self._age_s = 0.0
        """How long ago the client began to send what the journal has, if that is the next request or a part of it."""
        self._request: HeldRequest
        self._left_websocket: LeftWebSocket | None = None
        self._websocket: HeldWebSocket | None = None

    async def run(self) -> None:
        """Serves until either side ends the connection, and then lets the keeper close its copy."""
        try:
            if not self._given.told.taken_over or self._take_over():
                await super().run()
        finally:
            self._link.journal_bytes -= self._journaled - self._request_at
            if self._websocket is not None:
                self._websocket.forget()
            self._link.send_nowait(Done(self._cid))

    # A takeover.

    def _take_over(self) -> bool:
        """Brings this object to where the connection stands. Returns False where the connection must be cut."""
        given, (journal_at, journal, base_out) = self._given, self._left_journal()
        given.journal.clear()
        self._link.journal_bytes += len(journal)
        self._request_at, self._base_out, self._journaled = journal_at, base_out, journal_at + len(journal)
        records = stored_records(self._link.slots, self._slot)
        if records and records[0].flags & LARGE:
            records[0] = records[0]._replace(data=given.large.get(records[0].generation, b""))
        given.large.clear()
        is_websocket = bool(records) and records[0].flags & SOCKET and records[0].begin >= base_out
        try:
            self._gone = is_closed(self._raw)
            if self._gone and not is_websocket:
                if records and records[0].flags & COMPLETE and records[0].begin >= base_out:
                    return False  # its last answer was whole
                self._in, self._ahead = self._journaled, journal
                self._given_journal_end = self._in
                return True
            if self._gone:
                position = records[0].begin + records[0].length, self._journaled  # nobody can know, or needs to
            else:
                position = written(self._raw), taken(self._raw)
            left = LeftBehind(journal_at, journal, base_out, records, *position, given.notes)
            how = go_on(left)
            self._throw_away(how.untaken)
        except (CannotGoOn, OSError) as error:
            self.give_up(str(error))
            return False
        self._ahead, self._rest, self._stage, self._generation = how.journal, how.rest, how.stage, how.generation
        self._in = self._given_journal_end = self._journaled
        self._needs_record = bool(how.rest)
        self._out = left.written + len(how.rest)
        if how.is_websocket:
            head = given.notes.pop(HEAD_KEY)
            self._left_websocket = LeftWebSocket(head, given.notes, how.journal_at, self._in, how.reached)
            return True
        self.reached = how.reached
        if how.journal_at > self._request_at:
            self._trim_to(how.journal_at, how.base_out)
        elif how.journal:
            self._age_s = max(0.0, time.monotonic() - self._began_ms / 1000)
        return True

    def _left_journal(self) -> tuple[int, bytes, int]:
        """The position of the journal, its bytes, and where the response to its first request begins.

        The slot and the keeper may both have one: the other one's request was over, or was too long for the slot.
        """
        told, journal = self._given.told, bytes(self._given.journal)
        short = stored_journal(self._slots, self._slot)
        if short is not None:
            self._journal_generation, self._began_ms = short.generation, short.began_ms
            self._kept_from, self._kept_base_out = short.begin, short.base_out
            if short.end >= told.journal_at + len(journal):
                return short.begin, short.data, short.base_out
        self._at_keeper = bool(journal)
        self._began_ms = int(time.monotonic() * 1000) - told.age_ms
        return told.journal_at, journal, told.base_out

    def _throw_away(self, count: int) -> None:
        """Takes what the journal has already out of the kernel's buffer."""
        while count:
            count -= self._raw.recv_into(_SCRATCH, min(count, len(_SCRATCH)))

    def _addresses(self) -> tuple[Address, Address]:
        return (None, None) if self._gone else super()._addresses()

    async def _read(self) -> None:
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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.write_rest)
                await super()._read()
        else:
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

    def resume(self) -> None:
        """Writes again what the application writes: its handler is where the client is."""
        self._stage = Stage.NOTHING

    def give_up(self, why: str) -> None:
        """Cuts the connection, which cannot go on as if nothing had happened."""
        log.warning("a connection was cut, because it cannot be continued", connection=self._cid, reason=why)
        self.cut("the connection cannot be continued")

    # Requests.

    def set_idle(self, *, idle: bool) -> None:
        """As for every connection. At the end of a request, the keeper forgets it."""
        if idle:
            self._expect_request()
        elif self._in > self._given_journal_end and self._protected:
            self._request.is_repeated = False  # its head was not complete, so no gateway handled it
        super().set_idle(idle=idle)

    def _expect_request(self) -> None:
        """Makes what the next exchange knows of this connection."""
        if not self._protected:
            self._protocol.connection_state.pop("held", None)
            return
        at = self._unread_from()
        if at > self._request_at and self._stage is not Stage.ENDS and self._left_websocket is None:
            self._trim_to(at, self._out)
        origin = f"{self._link.token}:{self._cid}:{self._request_at}"
        is_repeated = self._request_at < self._given_journal_end
        if self._stage is not Stage.BEGUN:
            self.reached, reached = b"", None
        else:
            reached = b"%d" % self.reached if isinstance(self.reached, int) else self.reached
        self._request = HeldRequest(self, origin, is_repeated, reached, age_s=self._age_s)
        self._protocol.connection_state["held"] = self._request

    def begin_websocket(self, head: bytes) -> HeldWebSocket:
        """Serves frames from here on, if the handshake with this head is accepted."""
        left = self._left_websocket
        at = self._unread_from() if left is None else left.frames_at
        self._websocket = HeldWebSocket(self._link, self._cid, f"{self._link.token}:{self._cid}", at, left)
        if left is None:
            self._websocket.keep_head(head)
        return self._websocket

    def _unread_from(self) -> int:
        """The input position at which the next request begins, once a request was read whole."""
        return self._in - len(self._ahead) - self._protocol.unread_bytes

    def _trim_to(self, request_at: int, base_out: int) -> None:
        """Forgets what the journal has before this request.

        The journal need not be changed before the next record is made: until then, the record of the whole response
        says the same. So a short request is forgotten together with the beginning of the next one.
        """
        self._link.journal_bytes -= request_at - self._request_at
        self._request_at, self._base_out, self._untold = request_at, base_out, True
        if request_at < self._journaled or self._at_keeper or self._has_large:
            self._tell_trim()

    def _tell_trim(self) -> None:
        if not self._untold or self._needs_record:
            return
        self._untold = False
        if self._at_keeper or self._has_large:
            self._link.send_nowait(Trim(self._cid, self._request_at, self._base_out))
            self._has_large = False
        if not self._at_keeper:
            self._journal_in_slot(b"")
        elif self._request_at == self._journaled:
            self._at_keeper = False

    def _journal_in_slot(self, data: bytes) -> None:
        generation = self._journal_generation = self._journal_generation + 1
        if not self._needs_record:
            if self._request_at == self._journaled or self._request_at != self._kept_from:
                self._began_ms = int(time.monotonic() * 1000)
            self._kept_from, self._kept_base_out, self._untold = self._request_at, self._base_out, False
        begin, base_out, end = self._kept_from, self._kept_base_out, self._journaled + len(data)
        store_journal(self._slots, self._slot, generation, begin, base_out, self._began_ms, end, data)
        self._journaled = end

    async def _wait_written(self) -> None:
        if self._rest or self._senders:
            with trio.CancelScope(shield=True):  # a write that is cancelled would cut the connection
                await self.write_rest()

    async def _journal_at_keeper(self, data: bytes) -> None:
        """Gives the keeper the next bytes of a long request, and before them those that are in the slot."""
        if not self._at_keeper:
            await self._wait_written()  # the keeper will forget what is before this request, and large records
            self._at_keeper, self._untold, self._has_large = True, False, False
            short = stored_journal(self._slots, self._slot)
            before = b"" if short is None else short.data[self._request_at - short.end :]
            self._link.send_nowait(Trim(self._cid, self._request_at, self._base_out))
            if self._request_at < self._journaled:
                self._link.journal_nowait(self._cid, self._request_at, before)
        self._link.journal_nowait(self._cid, self._journaled, data)
        self._journaled += len(data)

    async def _receive(self) -> bytes:
        if not self._protected or self._mute or self._gone:
            return await super()._receive()
        if self._age_s and self._idle:
            self._reading.deadline -= self._age_s  # a part of a head: another gateway gives it no more time
        self._age_s = 0.0
        while True:
            try:
                await trio.lowlevel.wait_readable(self._raw)
                data = self._raw.recv(READ_BYTES, socket.MSG_PEEK)
                if data:
                    await self._journal(data)
                    self._throw_away(len(data))
                    self._in += len(data)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                self._mute = True  # nobody reads what is written to a broken connection
                return b""
            else:
                return data

    async def _journal(self, data: bytes) -> None:
        """Writes down what of `data`, the next bytes of the client, is not written down."""
        new = self._in + len(data) - self._journaled  # a cancelled call may have done so with some of them
        of_request = self._journaled + new - self._request_at
        if of_request > JOURNAL_BYTES or self._link.journal_bytes + new > JOURNALS_BYTES:
            self._unprotect()
        elif new:
            if self._at_keeper or of_request > SHORT_JOURNAL_BYTES:
                await self._journal_at_keeper(data[-new:])
            else:
                if self._journaled + new - self._kept_from > SHORT_JOURNAL_BYTES:
                    await self._wait_written()
                    self._journal_in_slot(b"")  # makes room
                self._journal_in_slot(data[-new:])
            self._link.journal_bytes += new
        if self._link.is_behind:
            await self._link.wait_sent()

    def _unprotect(self) -> None:
        """Lets the connection end with this process."""
        self._protected = False
        self._link.journal_bytes -= self._journaled - self._request_at
        self._journaled = self._request_at
        if self._websocket is not None:
            self._websocket.forget()
        self._link.send_nowait(Unprotected(self._cid))

    # Writing.

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone or has them already."""
        if self._mute:
            return
        if not self._protected:
            await super().write(data)
            return
        flags, next_in, reached = self._noted()
        if self._stage is not Stage.NOTHING and self._is_written(data, flags):
            return
        if not data and not flags & COMPLETE:
            return
        if self._rest or self._senders or self._link.is_behind or len(data) + len(reached) > RECORD_BYTES:
            await self._write_later(data, flags, next_in, reached)
            return
        self._record(data, flags, next_in, reached)
        sent = self._write_now(data)
        if sent < len(data):
            await self._write_waiting(data, sent)
            return
        self._unyielded += 1
        if self._unyielded % FAIR_EVERY == 0:
            await trio.lowlevel.checkpoint()

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

    def _noted(self) -> tuple[int, int, bytes]:
        """What the record of the next write says of its response."""
        flags, reached = self._protocol.progress, self.reached
        if flags & SOCKET and self._websocket is not None:
            flags |= CLOSE if self._websocket.is_closing else 0
            return flags, self._websocket.frames_at, self._websocket.reached
        if flags & COMPLETE:
            return flags, self._unread_from(), b""
        return (flags | SEQ, reached, b"") if isinstance(reached, int) else (flags, 0, reached)

    def _record(self, data: bytes, flags: int, next_in: int, reached: bytes) -> None:
        """Records a write that is made next. Everything before it was written."""
        generation, begin = self._generation + 1, self._out
        self._generation, self._out = generation, begin + len(data)
        store_record(self._slots, self._slot, generation, begin, next_in, flags, reached, data)
        if flags & SOCKET and not flags & LARGE and (self._has_large or self._request_at < next_in < IGNORED):
            # Nobody needs the records before this one any more. A large one would be forgotten with them.
            self._trim_to(min(next_in, self._journaled), begin)

    async def _write_later(self, data: bytes, flags: int, next_in: int, reached: bytes) -> None:
        """Writes what cannot be recorded yet."""
        async with self._turn_to_send():
            rest, self._rest = self._rest, b""
            await self._send_all(memoryview(rest))
            if self._mute:
                return
            self._rest_is_written()
            if len(data) + len(reached) > RECORD_BYTES:
                flags |= LARGE
                self._tell_trim()  # what the keeper can forget is older than this record
                self._has_large = True
                self._link.send_nowait(Large(self._cid, self._generation + 1), memfd_of(data))
            await self._link.wait_sent()
            self._record(data, flags, next_in, reached)
            await self._send_all(memoryview(data))

    async def write_rest(self) -> None:
        """As for every connection."""
        await super().write_rest()
        if not self._mute:
            self._rest_is_written()

    def _rest_is_written(self) -> None:
        """Tells the keeper what it could not forget before."""
        if self._needs_record:
            self._needs_record = False
            self._tell_trim()

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        """As for every connection. A chunk whose record has another form than that of a token is written by `write`."""
        if not self._protected:
            return super().write_chunk_nowait(data)
        if self._mute or self._rest or self._senders or not self._protocol.may_continue_body:
            return None
        chunk, reached = chunk_of(data), self.reached
        if (
            self._link.is_behind
            or self._stage is not _NOTHING
            or len(chunk) > RECORD_BYTES
            or isinstance(reached, bytes)
        ):
            return None
        self._record(chunk, _OF_TOKEN, reached, b"")
        sent = self._write_now(chunk)
        if sent == len(chunk):
            return True
        self._rest = chunk[sent:]
        return False
