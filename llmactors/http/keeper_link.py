"""A gateway's link to its keeper: takes connections from it, and tells it what a later gateway needs to know."""

import array
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Self

import attrs
import structlog
import trio

from llmactors.keeper.protocol import (
    LISTENING_VARIABLE,
    MAX_PIECE_BYTES,
    SLOTS_VARIABLE,
    SOCKET_VARIABLE,
    TOKEN_VARIABLE,
    Active,
    AllGiven,
    Beat,
    Begin,
    Given,
    Go,
    Large,
    Message,
    Note,
    Piece,
    Warm,
    decode,
    encode,
)
from llmactors.keeper.silence import BEAT_S

log = structlog.get_logger("llmactors.http")

_PACKET_BYTES = 65_536
_CONTROL_BYTES = socket.CMSG_SPACE(array.array("i").itemsize)
_AT_ONCE = 64
"""The number of messages that are handled before other tasks run."""
JOURNALS_BYTES = 64 * 1024 * 1024
"""The bytes that the journals of all connections may have together. Beyond that, connections are not protected."""


@attrs.define(eq=False)
class GivenConnection:
    """A connection from the keeper."""

    told: Given
    socket: socket.socket
    journal: bytearray = attrs.field(factory=bytearray)
    large: dict[int, bytes] = attrs.field(factory=dict)
    """The bytes of large records, by their generations."""
    notes: dict[int, bytes] = attrs.field(factory=dict)


class KeeperLink:
    """The link of this process to its keeper. The link outlives the incarnations of the gateway.

    Args:
        channel: The socket to the keeper.
        slots: The slots of all connections, in which their writes are recorded.
        token: What the keeper's connections have in common, and nobody else knows.
        address: The address on which the keeper listens.
        end_process: Called when the keeper is gone, and with it all that it held, and when this process can go on no
            more, so that another one takes its connections over. Should not return.
    """

    def __init__(
        self,
        channel: socket.socket,
        slots: mmap.mmap,
        token: str,
        address: tuple[str, int],
        *,
        end_process: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        channel.setblocking(False)
        self.slots = slots
        self.token = token
        self.address = address
        self.end_process = end_process
        self.all_given = trio.Event()
        """Set once the connections of a takeover, or of a part of it, were given."""
        self.on_go: Callable[[], object] = _nothing
        """Called once this process is the active one, before it gets connections."""
        self.is_behind = False
        """Whether there are messages that the keeper's socket had no room for. Read for each token."""
        self.journal_bytes = 0
        """The bytes of all journals that the keeper holds for this process."""
        self._channel = channel
        self._is_active = trio.Event()
        self._packet = memoryview(bytearray(_PACKET_BYTES))
        """Where a message of the keeper's is read to."""
        self._waiting: dict[int, GivenConnection] = {}
        """The connections whose journals are not complete."""
        self._unsent: deque[tuple[bytes, int | None]] = deque()
        self._has_unsent, self._has_sent = trio.Event(), trio.Event()

    def __repr__(self) -> str:
        return f"<KeeperLink {len(self._waiting)} waiting, {len(self._unsent)} unsent>"

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str] = os.environ, *, end_process: Callable[[], None] = lambda: os._exit(1)
    ) -> Self | None:
        """The link of a process that a keeper started; None for any other process.

        The variables are removed, and no child of this process gets a descriptor.
        """
        if SOCKET_VARIABLE not in environ:
            return None
        names = SOCKET_VARIABLE, SLOTS_VARIABLE, LISTENING_VARIABLE
        channel, slots, listening = (int(environ.pop(name)) for name in names)
        for fd in (channel, slots, listening):
            os.set_inheritable(fd, False)
        with os.fdopen(slots, "r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        # A copy that stays open would take clients that nobody serves, once the keeper has closed its own.
        with socket.socket(fileno=listening) as listener:
            address = listener.getsockname()[:2]
        token = environ.pop(TOKEN_VARIABLE)
        return cls(socket.socket(fileno=channel), memory, token, address, end_process=end_process)

    # From the keeper.

    async def beat(self) -> None:
        """Tells the keeper again and again that this process is not frozen, until cancelled."""
        while True:
            if not self.is_behind:
                self.send_nowait(Beat())
            await trio.sleep(BEAT_S)

    async def wait_go(self) -> None:
        """Tells the keeper that this process is ready, and waits until it is the active one, unless it is.

        `take_connections` must run meanwhile.
        """
        if not self._is_active.is_set():
            self.send_nowait(Warm())
            await self._is_active.wait()

    async def take_connections(self, begin: Callable[[GivenConnection], None]) -> None:
        """Calls `begin` for each connection that the keeper gives, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_unsent)
            handled = 0
            while True:
                self._handle(await self._next(), begin)
                handled += 1
                if handled % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _handle(self, message: Message, begin: Callable[[GivenConnection], None]) -> None:
        match message:
            case Piece(cid, _, data):
                self._waiting[cid].journal += data
            case Note(cid, key, data):
                self._waiting[cid].notes[key] = data
            case Begin(cid) | Given(cid, more=False):
                begin(self._waiting.pop(cid))
            case AllGiven():
                self.all_given.set()
            case Go():
                self.on_go()
                self._is_active.set()
            case _:
                pass  # what comes with a descriptor was handled with it

    async def _next(self) -> Message:
        while True:
            try:
                size, control, _, _ = self._channel.recvmsg_into(
                    [self._packet], _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._channel)
                continue
            except ConnectionResetError:
                size, control = 0, []
            if not size:
                log.critical("the keeper of the connections is gone, and so this gateway ends")
                self.end_process()
                await trio.sleep_forever()
            message = decode(bytes(self._packet[:size]))
            match message:
                case Given():
                    self._waiting[message.cid] = GivenConnection(message, self._opened(_descriptor(control)))
                case Large():
                    with os.fdopen(_descriptor(control), "rb") as file:
                        file.seek(0)
                        self._waiting[message.cid].large[message.generation] = file.read()
            return message

    def fail(self, why: str) -> None:
        """Ends this process, whose connections another one takes over. What ran in this process is not cleaned up."""
        log.error("this gateway ends, and another one takes its connections over", reason=why)
        self.end_process()

    def _opened(self, fd: int) -> socket.socket:
        raw = socket.socket(fileno=fd)
        raw.setblocking(False)
        return raw

    # To the keeper.

    def send_nowait(self, message: Message, fd: int | None = None) -> None:
        """Sends a message, or keeps it until there is room for it. Messages keep their order. `fd` is closed then."""
        self._send_packet(encode(message), fd)

    def journal_nowait(self, cid: int, at: int, data: bytes) -> None:
        """As `send_nowait`, for bytes of a connection's journal that begin at the input position `at`."""
        for start in range(0, len(data), MAX_PIECE_BYTES):
            self._send_packet(encode(Piece(cid, at + start, data[start : start + MAX_PIECE_BYTES])), None)

    async def wait_sent(self) -> None:
        """Waits until the keeper has all messages: it reads what is in its socket also if this process is killed."""
        while self._unsent:
            await self._has_sent.wait()

    def tell_active(self) -> None:
        """Tells the keeper that this process serves what it was given."""
        self.all_given = trio.Event()
        self.send_nowait(Active())

    def _send_packet(self, packet: bytes, fd: int | None) -> None:
        if not self._unsent and self._sent(packet, fd):
            return
        self._unsent.append((packet, fd))
        self.is_behind = True
        self._has_unsent.set()

    def _sent(self, packet: bytes, fd: int | None) -> bool:
        control = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            self._channel.sendmsg([packet], control)
        except BlockingIOError:
            return False
        except OSError:
            pass  # the keeper is gone, which `_next` notices
        if fd is not None:
            os.close(fd)
        return True

    async def _send_unsent(self) -> None:
        while True:
            await self._has_unsent.wait()
            self._has_unsent = trio.Event()
            while self._unsent:
                if self._sent(*self._unsent[0]):
                    self._unsent.popleft()
                else:
                    await trio.lowlevel.wait_writable(self._channel)
            self.is_behind = False
            self._has_sent.set()
            self._has_sent = trio.Event()


def _nothing() -> None:
    pass


def _descriptor(control: list[tuple[int, int, bytes]]) -> int:
    """The file descriptor that came with a message."""
    [(_, _, data)] = control
    [fd] = array.array("i", data)
    return fd


def memfd_of(data: bytes) -> int:
    """A file in memory with `data` in it."""
    fd = os.memfd_create("llmactors-record", os.MFD_CLOEXEC)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        os.close(fd)
        raise
    return fd
