"""A client's connection that outlives this process: the keeper holds a copy of the socket, and a later gateway goes on.

Two rules make that exact. What the client sends is journalled before it is taken out of the kernel's buffer
(`held_journal`). And each write is recorded in shared memory before it is made, with the bytes themselves, once
everything before it was written. `taken_connection` is the connection as a later gateway has it.
"""

import socket

import structlog
import trio

from llmactors.http.answer_note import AnswerNote, store_answer
from llmactors.http.connection import CHUNK_SIZES, FAIR_EVERY, READ_BYTES, ConnectionSettings, ServerConnection
from llmactors.http.continuation import Stage
from llmactors.http.held_journal import HeldJournal
from llmactors.http.held_request import HeldRequest
from llmactors.http.held_websocket import IGNORED, HeldWebSocket
from llmactors.http.inbox import Application
from llmactors.http.keeper_link import GivenConnection, KeeperLink, memfd_of
from llmactors.http.protocol_settings import ProtocolSettings
from llmactors.http.throttle import BurstThrottle
from llmactors.http.write_records import (
    BEGUN,
    CLOSE,
    COMPLETE,
    LARGE,
    NUMBERS_AT,
    RECORD_BYTES,
    SEQ,
    SOCKET,
    STORES,
    store_record,
)
from llmactors.keeper.protocol import Done, Large
from llmactors.keeper.slots import HALF_BYTES, SLOT_BYTES

log = structlog.get_logger("llmactors.http")

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
            "_cid",
            "_generation",
            "_in",
            "_journal",
            "_link",
            "_origin",
            "_out",
            "_places",
            "_protected",
            "_slot",
            "_slots",
        ),
        *("_stage", "_websocket"),
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
        self._link = link
        self._journal = HeldJournal(told, link)
        self._cid, self._slot, self._slots = told.cid, told.slot, link.slots
        start = told.slot * SLOT_BYTES + NUMBERS_AT
        self._places = (start, start + HALF_BYTES)
        """Where the numbers of records of even and of odd generations stand."""
        self._origin = f"{link.token}:{told.cid}"
        """What the origins of all calls of this connection have in common, and those of no other connection."""
        self._protected = True
        self._in = told.journal_at
        """The input position behind what was taken."""
        self._out = told.base_out
        """The output position behind everything that was recorded."""
        self._generation = 0
        self._stage = _NOTHING
        """What of the response to the next request is written already, and must not be written again."""
        self._websocket: HeldWebSocket | None = None

    async def run(self) -> None:
        """Serves until either side ends the connection, and then lets the keeper close its copy."""
        try:
            if self._can_go_on():
                await super().run()
        finally:
            self._journal.forget()
            if self._websocket is not None:
                self._websocket.forget()
            self._link.send_nowait(Done(self._cid))

    def _can_go_on(self) -> bool:
        """Whether the connection can be served."""
        return True

    def resume(self) -> None:
        """Writes again what the application writes: its handler is where the client is."""
        self._stage = _NOTHING

    def give_up(self, why: str) -> None:
        """Cuts the connection, which cannot go on as if nothing had happened."""
        log.warning("a connection was cut, because it cannot be continued", connection=self._cid, reason=why)
        self.cut("the connection cannot be continued")

    # Requests.

    def set_idle(self, *, idle: bool) -> None:
        """As for every connection. At the end of a request, the keeper forgets it."""
        if idle:
            if self._protected:
                self._forget_answered()
                self._protocol.connection_state["held"] = self._next_request()
            else:
                self._protocol.connection_state.pop("held", None)
        super().set_idle(idle=idle)

    def _forget_answered(self) -> None:
        """Lets the journal forget the request that was answered."""
        at = self._unread_from()
        if at > self._journal.request_at:
            self._journal.trim_to(at, self._out)

    def _next_request(self) -> HeldRequest:
        """What the next exchange knows of this connection."""
        self.reached = b""
        return HeldRequest(self, f"{self._origin}:{self._journal.request_at}", is_repeated=False, reached=None)

    def begin_websocket(self, head: bytes) -> HeldWebSocket:
        """Serves frames from here on, if the handshake with this head is accepted."""
        self._websocket = HeldWebSocket(self._link, self._cid, self._origin, self._unread_from(), None)
        self._websocket.keep_head(head)
        return self._websocket

    def note_answer(self, method: str, path: str, application: bytes) -> None:
        """Notes the answer that has begun, for a gateway that takes the connection over."""
        takes_another = self._protocol.takes_another
        if self._protected and takes_another is not None:
            answer = AnswerNote(self._unread_from(), takes_another, method, path, application)
            store_answer(self._slots, self._slot, self._journal.request_at, answer)

    def _unread_from(self) -> int:
        """The input position at which the next request begins, once a request was read whole."""
        return self._in - len(self._ahead) - self._protocol.unread_bytes

    # Reading.

    async def _receive(self) -> bytes:
        if not self._protected or self._mute:
            return await super()._receive()
        while True:
            try:
                await trio.lowlevel.wait_readable(self._raw)
                data = self._raw.recv(READ_BYTES, socket.MSG_PEEK)
                if data:
                    await self._keep(data)
                    self._throw_away(len(data))
                    self._in += len(data)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                self._mute = True  # nobody reads what is written to a broken connection
                return b""
            else:
                return data

    async def _keep(self, data: bytes) -> None:
        """Writes down what of `data`, the next bytes of the client, is not in the journal yet."""
        new = data[self._journal.end - self._in :]  # a cancelled call may have written some of them down
        if not self._journal.has_room(len(new)):
            self._unprotect()
        elif new:
            if self._journal.will_forget(len(new)) and (self._rest or self._senders):
                with trio.CancelScope(shield=True):  # a write that is cancelled would cut the connection
                    await self.write_rest()
            self._journal.add(new)
        if self._link.is_behind:
            await self._link.wait_sent()

    def _throw_away(self, count: int) -> None:
        """Takes what the journal has already out of the kernel's buffer."""
        while count:
            count -= self._raw.recv_into(_SCRATCH, min(count, len(_SCRATCH)))

    def _unprotect(self) -> None:
        """Lets the connection end with this process."""
        self._protected = False
        self._journal.unprotect()
        if self._websocket is not None:
            self._websocket.forget()

    # Writing.

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone."""
        if self._mute:
            return
        if not self._protected:
            await super().write(data)
            return
        flags, next_in, reached = self._noted()
        if not data and not flags & COMPLETE:
            return
        if len(data) + len(reached) > RECORD_BYTES and not self._rest and not self._senders:
            flags |= LARGE
            self._give_large(data)
        if self._rest or self._senders or self._link.is_behind:
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
        if flags & SOCKET and not flags & LARGE:
            self._forget_frames(next_in, begin)

    def _forget_frames(self, next_in: int, base_out: int) -> None:
        """Lets the journal forget the frames before `next_in`: nobody needs the records before the newest any more.

        The keeper would forget a large record with them.
        """
        if self._journal.has_large or self._journal.request_at < next_in < IGNORED:
            self._journal.trim_to(min(next_in, self._journal.end), base_out)

    async def _write_later(self, data: bytes, flags: int, next_in: int, reached: bytes) -> None:
        """Writes what cannot be recorded yet."""
        async with self._turn_to_send():
            rest, self._rest = self._rest, b""
            await self._send_all(memoryview(rest))
            if self._mute:
                return
            self._journal.record_is_written()
            if len(data) + len(reached) > RECORD_BYTES and not flags & LARGE:
                flags |= LARGE
                self._give_large(data)
            await self._link.wait_sent()
            self._record(data, flags, next_in, reached)
            await self._send_all(memoryview(data)[self._write_now(data) :])

    def _give_large(self, data: bytes) -> None:
        """Gives the keeper the bytes of the next record, which do not fit the slot."""
        self._journal.trim()  # what the keeper can forget is older than this record
        self._journal.has_large = True
        self._link.send_nowait(Large(self._cid, self._generation + 1), memfd_of(data))

    async def write_rest(self) -> None:
        """As for every connection."""
        await super().write_rest()
        if not self._mute:
            self._journal.record_is_written()

    def write_chunk_nowait(self, data: bytes) -> bool | None:
        """As for every connection. A chunk whose record has another form than that of a token is written by `write`."""
        if not self._protected:
            return super().write_chunk_nowait(data)
        if self._mute or self._rest or self._senders or not self._protocol.may_continue_body:
            return None
        # From here on as `chunk_of`, `_record` and `_write_now`: their calls cost 2 % of all that a token costs.
        size, reached = len(data), self.reached
        chunk = (CHUNK_SIZES[size] if size < len(CHUNK_SIZES) else b"%x\r\n" % size) + data + b"\r\n"
        size = len(chunk)
        if self._link.is_behind or self._stage is not _NOTHING or size > RECORD_BYTES or isinstance(reached, bytes):
            return None
        generation, begin = self._generation + 1, self._out
        self._generation, self._out = generation, begin + size
        if size < len(STORES):
            at = self._places[generation & 1] - (size + 7 & -8)
            STORES[size](self._slots, at, chunk, begin, reached, size, 0, _OF_TOKEN, generation)
        else:
            store_record(self._slots, self._slot, generation, begin, reached, _OF_TOKEN, b"", chunk)
        try:
            sent = self._raw.send(chunk)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.cut("the client is gone")
            sent = 0
        if sent == size:
            return True
        self._rest = chunk[sent:]
        return False
