"""A small gateway that speaks with a keeper: a process of the standard library, which starts in 30 ms.

A client sends lines, and each is a request. The answers follow from the requests alone, so a successor needs the
positions and no log. `python small_gateway.py MODE_FILE`: the file holds what this process does wrong, if anything.

    say N MS      N lines, one each MS milliseconds
    large N       N bytes in one large record
    sum N         N bytes follow; the answer is their SHA-256
    poison        no answer; a gateway that takes the connection over crashes at once
    slay          no answer; a gateway that takes the connection over is killed by SIGKILL
    venom         no answer; a gateway that takes the connection over crashes after 50 ms
    hog MS        no answer; a gateway that takes the connection over is killed after so long, for want of memory
    drop MS       the same, by SIGKILL alone
    spin          no answer; the gateway does nothing else from here on, nor does one that takes the connection over
    leave         the answer `left`, with no journal from here on
"""

import array
import hashlib
import mmap
import os
import select
import signal
import socket
import sys
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from llmactors.http.tcp_position import taken, written
from llmactors.http.write_records import BEGUN, COMPLETE, LARGE, RECORD_BYTES, WriteRecord, store_record, stored_records
from llmactors.keeper.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_PIECE_BYTES,
    SLOTS_VARIABLE,
    SOCKET_VARIABLE,
    Active,
    AllGiven,
    Beat,
    Begin,
    Done,
    Given,
    Go,
    Large,
    Message,
    Piece,
    StopAccepting,
    Trim,
    Unprotected,
    Warm,
    decode,
    encode,
)
from llmactors.keeper.silence import BEAT_S


class Gateway:
    """The process."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.channel = socket.socket(fileno=int(os.environ[SOCKET_VARIABLE]))
        slots = int(os.environ[SLOTS_VARIABLE])
        self.slots = mmap.mmap(slots, os.fstat(slots).st_size)
        self.epoll = select.epoll()
        self.epoll.register(self.channel, select.EPOLLIN)
        self.connections: dict[int, Connection] = {}
        self.draining = False
        self.beat_at = 0.0

    def tell(self, message: Message, fd: int = -1) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        self.channel.sendmsg([encode(message)], rights)

    def run(self) -> None:
        if self.mode == "exits":
            sys.exit(3)
        if self.mode == "orphans":
            os.system("sleep 0.2 &")
        if self.mode == "cold":
            time.sleep(60)
        self.tell(Warm(99) if self.mode == "newer" else Warm())
        while not (self.draining and not self.connections):
            for fd, _ in self.epoll.poll(0.005):
                if fd == self.channel.fileno():
                    self._hear()
                else:
                    for connection in [each for each in self.connections.values() if each.sock.fileno() == fd]:
                        connection.read()
            for connection in list(self.connections.values()):
                connection.go_on()
            if time.monotonic() >= self.beat_at:
                self.beat_at = time.monotonic() + BEAT_S
                self.tell(Beat())

    def _hear(self) -> None:
        data, rights, _, _ = self.channel.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        if not data:
            sys.exit(0)  # the keeper has ended
        message = decode(data)
        fds = array.array("i", b"".join(found for _, _, found in rights))
        match message:
            case Go() if self.mode == "fails":
                os._exit(70)
            case Go() if self.mode == "crashes":
                signal.signal(signal.SIGALRM, lambda *_: os._exit(70))
                signal.setitimer(signal.ITIMER_REAL, 0.1)
            case Go():
                signal.signal(signal.SIGTERM, self._drain)
            case AllGiven():
                self.tell(Active())
            case Given():
                self._take(message, socket.socket(fileno=fds[0]))
            case Large(cid, generation):
                self.connections[cid].larges[generation] = os.fdopen(fds[0], "rb")
            case Piece(cid, at, piece):
                assert at == self.connections[cid].base_in + len(self.connections[cid].journal)
                self.connections[cid].journal += piece
            case Begin(cid):
                self.connections[cid].begin()

    def _take(self, given: Given, sock: socket.socket) -> None:
        connection = self.connections[given.cid] = Connection(self, given, sock)
        if not given.more:
            connection.begin()

    def _drain(self, *_: object) -> None:
        self.draining = True
        self.tell(StopAccepting())
        for connection in list(self.connections.values()):
            connection.end_if_idle()


class Connection:
    """A connection of a client."""

    def __init__(self, gateway: Gateway, given: Given, sock: socket.socket) -> None:
        self.gateway, self.sock, self.cid, self.slot, self.taken_over = (
            gateway,
            sock,
            given.cid,
            given.slot,
            given.taken_over,
        )
        self.base_in, self.base_out = given.journal_at, given.base_out
        self.journal = bytearray()
        self.larges: dict[int, object] = {}
        self.answer: bytes | None = None
        self.at = self.generation = 0
        self.piece_bytes, self.pause_s, self.due = 0, 0.0, 0.0
        self.request_bytes = 0
        self.protected = True

    def begin(self) -> None:
        out = written(self.sock)
        again = self.base_in + len(self.journal) - taken(self.sock)
        if again:
            self.sock.recv(again)
        records = stored_records(self.gateway.slots, self.slot)
        self.generation = records[0].generation if records else 0
        self._look()
        self.at = out - self.base_out
        if self.answer is not None and self.at:
            self._check(next(record for record in records if record.begin <= out <= record.begin + record.length))
        self.gateway.epoll.register(self.sock, select.EPOLLIN)
        self.go_on()

    def _check(self, record: WriteRecord) -> None:
        """The record must have the bytes that the answer has there."""
        data = record.data
        if record.flags & LARGE:
            file = self.larges[record.generation]
            data = os.pread(file.fileno(), record.length, 0)  # type: ignore[attr-defined]
        start = record.begin - self.base_out
        assert self.answer is not None
        assert data == self.answer[start : start + record.length], "a wrong record"

    def read(self) -> None:
        try:
            data = self.sock.recv(16384, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        if self.protected:
            for start in range(0, len(data), MAX_PIECE_BYTES):
                piece = data[start : start + MAX_PIECE_BYTES]
                self.gateway.tell(Piece(self.cid, self.base_in + len(self.journal) + start, piece))
        self.sock.recv(len(data))
        self.journal += data
        self._look()

    def _look(self) -> None:
        """Begins the next answer, if a request is whole."""
        line, found, rest = bytes(self.journal).partition(b"\n")
        if self.answer is not None or not found:
            return
        self.request_bytes = len(line) + 1
        self.piece_bytes, self.pause_s = 1 << 30, 0.0
        match line.decode().split():
            case ["say", count, pause_ms]:
                self.answer = b"".join(b"%06d\n" % number for number in range(int(count)))
                self.piece_bytes, self.pause_s = 7, int(pause_ms) / 1000
            case ["large", size]:
                self.answer = (b"0123456789abcde\n" * (int(size) // 16 + 1))[: int(size)]
            case ["sum", size]:
                if len(rest) < int(size):
                    return
                self.request_bytes += int(size)
                self.answer = hashlib.sha256(rest[: int(size)]).hexdigest().encode() + b"\n"
            case ["poison" | "slay" | "venom" | "spin" as harm]:
                self._harm(harm)
            case ["hog" | "drop" as harm, after_ms] if self.taken_over:
                signal.signal(signal.SIGALRM, lambda *_: killed(without_memory=harm == "hog"))
                signal.setitimer(signal.ITIMER_REAL, int(after_ms) / 1000)
            case ["leave"]:
                self.answer, self.protected = b"left\n", False
                self.gateway.tell(Unprotected(self.cid))

    def _harm(self, how: str) -> None:
        while how == "spin":
            pass
        if self.taken_over and how == "poison":
            os._exit(70)
        if self.taken_over and how == "slay":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.taken_over:
            signal.signal(signal.SIGALRM, lambda *_: os._exit(70))
            signal.setitimer(signal.ITIMER_REAL, 0.05)

    def go_on(self) -> None:
        """Writes what is due."""
        if self.answer is None or time.monotonic() < self.due:
            return
        piece = self.answer[self.at : self.at + self.piece_bytes - self.at % self.piece_bytes]
        self.generation += 1
        self.due = time.monotonic() + self.pause_s
        flags = COMPLETE if self.at + len(piece) == len(self.answer) else BEGUN
        next_in = self.base_in + self.request_bytes
        if len(piece) > RECORD_BYTES - 8:
            flags |= LARGE
            memory = os.memfd_create("large")
            os.write(memory, piece)
            self.gateway.tell(Large(self.cid, self.generation), memory)
            os.close(memory)
        begin = self.base_out + self.at
        store_record(self.gateway.slots, self.slot, self.generation, begin, next_in, flags, b"", piece)
        try:
            self.at += self.sock.send(piece)
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        if self.at == len(self.answer):
            self.base_in, self.base_out = next_in, self.base_out + len(self.answer)
            del self.journal[: self.request_bytes]
            self.answer, self.at = None, 0
            if self.protected:
                self.gateway.tell(Trim(self.cid, self.base_in, self.base_out))
            self.end_if_idle()
            self._look()

    def end_if_idle(self) -> None:
        if self.gateway.draining and self.answer is None:
            self.end()

    def end(self) -> None:
        if self.gateway.connections.pop(self.cid, None):
            self.gateway.epoll.unregister(self.sock)
            self.sock.close()
            self.gateway.tell(Done(self.cid))


def killed(*, without_memory: bool) -> None:
    """Ends this process as its kernel does. The file is in place of `/proc/vmstat`."""
    if without_memory:
        with open(os.environ["KILLS_FILE"], "r+", encoding="ascii") as file:  # noqa: PTH123 - as below
            count = int(file.read().split()[-1]) + 1
            file.seek(0)
            file.write(f"nr_free_pages 7\noom_kill {count}\n")
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="ascii") as _file:  # noqa: PTH123 - as few imports as possible
        Gateway(_file.read().strip()).run()
