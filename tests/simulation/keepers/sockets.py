"""The two ends of a TCP connection of the model, and the calls of the system that take the gateway's end."""

import fcntl
import itertools
import random
import socket
import struct
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import trio

import llmactors.gateway.admission
import llmactors.http.client_socket
import llmactors.http.held_connection
import llmactors.http.held_journal
import llmactors.http.server
from llmactors.http.answer_note import store_answer
from llmactors.http.arrivals import Arrivals
from llmactors.http.keeper_link import KeeperLink
from llmactors.http.request_id import request_id_of
from llmactors.http.short_journal import ANSWER_AT, GENERATION_OF_JOURNAL_AT, NUMBERS_BYTES, store_journal
from llmactors.http.write_records import RECORD_BYTES, STORES, store_record
from llmactors.keeper.slots import GENERATION_AT, HALF_BYTES, JOURNAL_AT, SLOT_BYTES
from tests.simulation.keepers.fate import Fate
from tests.simulation.keepers.tcp import CLOSED, Habits, Signal, Tcp

_GONE = OSError("this process is dead")


class KernelSocket:
    """The gateway's end. Each call is a step of the gateway, and none has an effect once the gateway is dead.

    Args:
        raw: What the keeper gave, a copy of the door's other end.
    """

    family = socket.AF_INET

    def __init__(self, tcp: Tcp, raw: socket.socket, fate: Fate) -> None:
        self.tcp = tcp
        self._raw = raw
        self._fate = fate
        self._closing = Signal()

    def __repr__(self) -> str:
        return f"<KernelSocket {self.tcp!r}>"

    def fileno(self) -> int:
        return self._raw.fileno()

    def _step(self, kind: str) -> None:
        if not self._fate.step(kind):
            raise _GONE

    def send(self, data: Any) -> int:
        self._step("before send")
        if not self._fate.step("amid send"):
            return self.tcp.put(bytes(data[: len(data) // 2])) if len(data) > 1 else 0
        sent = self.tcp.put(bytes(data))
        self._step("behind send")
        return sent

    def recv(self, count: int, flags: int = 0) -> bytes:
        self._step("before peek" if flags & socket.MSG_PEEK else "before read")
        found = self.tcp.look(count) if flags & socket.MSG_PEEK else self.tcp.take(count)
        self._step("behind peek" if flags & socket.MSG_PEEK else "behind read")
        return found

    def recv_into(self, buffer: Any, count: int = 0) -> int:
        self._step("before read")
        found = self.tcp.take(count or len(buffer))
        buffer[: len(found)] = found
        self._step("behind read")
        return len(found)

    def shutdown(self, _how: int) -> None:
        self._step("before shutdown")
        self.tcp.end()
        self._step("behind shutdown")

    def setsockopt(self, _level: int, option: int, value: Any) -> None:
        if option == socket.SO_LINGER and isinstance(value, bytes) and self._fate.step("before linger"):
            self.tcp.linger_is_0 = struct.unpack("ii", value) == (1, 0)

    def getsockopt(self, level: int, option: int, _size: int = 0) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO), (level, option)
        return self.tcp.info()

    def getpeername(self) -> tuple[str, int]:
        if self.tcp.state == CLOSED:
            raise OSError("not connected")
        return self.tcp.address

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    def ioctl(self, which: int) -> bytes:
        """What the kernel counts."""
        counts = {termios.TIOCOUTQ: self.tcp.unacknowledged, termios.FIONREAD: self.tcp.untaken}
        return struct.pack("=i", counts[which]())

    async def wait_readable(self) -> None:
        await self._wait(self.tcp.incoming, lambda: self.tcp.is_readable)

    async def wait_writable(self) -> None:
        await self._wait(self.tcp.room, lambda: self.tcp.is_writable)

    async def _wait(self, signal: Signal, is_so: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not is_so():
            if self._raw.fileno() < 0:
                raise trio.ClosedResourceError
            await signal.wait()

    async def aclose(self) -> None:
        """Closes this copy."""
        self._raw.close()
        self.tcp.incoming.send()
        self.tcp.room.send()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class ClientEnd:
    """The client's end: a `ClientSocket`."""

    def __init__(self, tcp: Tcp) -> None:
        self.tcp = tcp

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.tcp.client_sends(data)

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return await self.tcp.client_reads()

    def watch(self, arrivals: Arrivals) -> None:
        return None

    def is_quiet(self) -> bool:
        return self.tcp.is_quiet

    def close(self) -> None:
        self.tcp.client_closes()


class Kernel:
    """All connections, and the addresses at which keepers accept. Run `run` as a task."""

    def __init__(self, folder: Path, rng: random.Random, fate: Fate) -> None:
        self.fate = fate
        self.origins: dict[str, str] = {}
        """The place at which the call began that has the request of this id."""
        self._folder = folder
        self._rng = rng
        self._tcps: dict[bytes, Tcp] = {}
        self._clients = itertools.count(1)
        self._nursery: trio.Nursery | None = None
        self._install()

    def __repr__(self) -> str:
        return f"<Kernel {len(self._tcps)} connections>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carries the bytes of all connections until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def bind(self, port: int) -> socket.socket:
        """The address of a keeper, which does not listen yet."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(str(self._folder / f"keeper-{port}"))
        return listener

    async def connect(self, _host: str, port: int) -> ClientEnd:
        """Takes the place of `http.client_socket._connect`."""
        await trio.sleep(self._rng.uniform(0.0002, 0.003))
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.setblocking(False)
        try:
            door.bind("")  # the system chooses a name, by which the other end finds the connection
            tcp = self._tcps[door.getsockname()] = Tcp(door, self._address(), Habits.drawn(self._rng), self._rng)
            door.connect(str(self._folder / f"keeper-{port}"))
        except OSError:
            door.close()
            raise
        assert self._nursery is not None
        self._nursery.start_soon(tcp.run)
        return ClientEnd(tcp)

    def _address(self) -> tuple[str, int]:
        number = next(self._clients)
        return f"10.{number >> 8 & 255}.{number & 255}.1", 4000

    def opened(self, fd: int) -> KernelSocket:
        """A gateway's copy of a connection, from the descriptor that the keeper sent."""
        raw = socket.socket(fileno=fd)
        return KernelSocket(self._tcps[raw.getpeername()], raw, self.fate)

    def _install(self) -> None:
        """Puts the kernel of the model in the place of the system's, for its own sockets."""
        system_ioctl, system_closer = fcntl.ioctl, llmactors.http.server.closer_of

        def ioctl(fd: Any, request: int, *rest: Any) -> Any:
            return fd.ioctl(request) if isinstance(fd, KernelSocket) else system_ioctl(fd, request, *rest)

        def closer_of(raw: Any) -> Any:
            return raw if isinstance(raw, KernelSocket) else system_closer(raw)

        def noted(tenant: str, key: str | None, origin: str | None, number: int) -> str:
            found = request_id_of(tenant, key, origin, number)
            if origin is not None and number == 0:
                self.origins[found] = origin
            return found

        for module, name, replacement in (
            (fcntl, "ioctl", ioctl),
            (trio.lowlevel, "wait_readable", _waits("wait_readable", trio.lowlevel.wait_readable)),
            (trio.lowlevel, "wait_writable", _waits("wait_writable", trio.lowlevel.wait_writable)),
            (llmactors.http.server, "closer_of", closer_of),
            (llmactors.http.client_socket, "_connect", self.connect),
            (llmactors.http.held_connection, "RECORD_BYTES", self._rng.choice((2000, RECORD_BYTES))),
            (llmactors.http.held_connection, "store_record", _mortal("record", store_record, self.fate)),
            (llmactors.http.held_connection, "STORES", [_mortal_chunk(store, self.fate) for store in STORES]),
            (llmactors.http.held_connection, "store_answer", _mortal_note(store_answer, self.fate)),
            (llmactors.http.held_journal, "store_journal", _mortal("journal", store_journal, self.fate)),
            (llmactors.gateway.admission, "request_id_of", noted),
        ):
            setattr(module, name, replacement)


def _waits(name: str, system: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    async def wait(sock: Any) -> None:
        await (getattr(sock, name)() if isinstance(sock, KernelSocket) else system(sock))

    return wait


def _mortal(name: str, system: Callable[..., None], fate: Fate) -> Callable[..., None]:
    """Stores into a slot whose gateway may die before, behind, and in the middle, where its number is not there yet."""
    ats = (GENERATION_AT, HALF_BYTES) if name == "record" else (JOURNAL_AT + GENERATION_OF_JOURNAL_AT, NUMBERS_BYTES)

    def store(slots: Any, slot: int, generation: int, *rest: Any) -> None:
        if not fate.step(f"before {name}"):
            return
        system(slots, slot, generation, *rest)
        at = slot * SLOT_BYTES + ats[0] + generation % 2 * ats[1]
        if not fate.step(f"amid {name}"):
            slots[at : at + 8] = bytes(8)
        else:
            fate.step(f"behind {name}")

    return store


def _mortal_note(system: Callable[..., None], fate: Fate) -> Callable[..., None]:
    """As `_mortal`, for the note of an answer."""

    def store(slots: Any, slot: int, *rest: Any) -> None:
        if not fate.step("before note"):
            return
        system(slots, slot, *rest)
        at = slot * SLOT_BYTES + ANSWER_AT
        if not fate.step("amid note"):
            slots[at : at + 8] = bytes(8)
        else:
            fate.step("behind note")

    return store


def _mortal_chunk(system: Callable[..., None], fate: Fate) -> Callable[..., None]:
    """As `_mortal`, for the record of a chunk."""

    def store(slots: Any, at: int, data: bytes, *numbers: int) -> None:
        if not fate.step("before record"):
            return
        system(slots, at, data, *numbers)
        at -= at % HALF_BYTES
        if not fate.step("amid record"):
            slots[at + GENERATION_AT : at + HALF_BYTES] = bytes(8)
        else:
            fate.step("behind record")

    return store


class MortalLink(KeeperLink):
    """A gateway's link to its keeper. Each message is a step."""

    kernel: Kernel

    def _send_packet(self, packet: bytes, fd: int | None) -> None:
        kind = chr(packet[0])
        if self.kernel.fate.step(f"before message {kind}"):
            super()._send_packet(packet, fd)
            self.kernel.fate.step(f"behind message {kind}")

    def _opened(self, fd: int) -> Any:
        return self.kernel.opened(fd)
