"""The order of all writes in Redis, from a recording of MONITOR that is read after the run.

MONITOR shows each command when it is executed, and the commands of a function directly after the call of the function.
So the recording shows which epoch each request had at each time, and under which epoch each log entry was written.
"""

import codecs
import contextlib
import re
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Self

import attrs
import msgspec

from llmactors.redislink.names import LedgerKey, RedisNames

_PART = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_LOG = RedisNames("main").ledger(LedgerKey.LOG, "").encode()
_PIECE_BYTES = 1 << 20


@attrs.define
class Order:
    """The counts and the violations in one recording."""

    written: int = 0
    """Log entries that were written."""
    late: int = 0
    """Appends under an outdated epoch, which wrote nothing."""
    claims: int = 0
    violations: list[str] = attrs.field(factory=list)
    """A sentence for each write that should not have happened."""

    def with_that_of(self, other: "Order") -> "Order":
        """The order of two servers together, of which each has requests of its own."""
        return Order(
            self.written + other.written,
            self.late + other.late,
            self.claims + other.claims,
            [*self.violations, *other.violations],
        )


class Monitor:
    """Records MONITOR into a file, in a thread of its own, from the beginning of a `with` block to its end."""

    def __init__(self, port: int, path: Path) -> None:
        self._port = port
        self.path = path
        """The recording."""
        self._is_open = True

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the recording."""
        if not self._is_open:
            return
        self._is_open = False
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _copy(self) -> None:
        # The server may still send when `__exit__` ends the connection.
        with self.path.open("wb") as out, contextlib.suppress(ConnectionResetError):
            while piece := self._socket.recv(_PIECE_BYTES):
                out.write(piece)

    def order(self) -> Order:
        """Reads the whole recording."""
        return read_order(self.path)


def _unescaped(part: bytes) -> bytes:
    """Undoes the escapes of MONITOR, which are those of C."""
    found: bytes = codecs.escape_decode(part)[0]
    return found


def read_order(path: Path) -> Order:  # noqa: C901 - one pass over one kind of line after another
    """Reads a recording. A write that should not have happened becomes a violation, and is no exception."""
    order = Order()
    epochs: dict[bytes, int] = {}
    last: dict[bytes, int] = {}
    offered: dict[bytes, int] = {}
    wrote: Counter[bytes] = Counter()

    def close_call() -> None:
        for request_id, epoch in offered.items():
            if not wrote[request_id] and epoch < epochs.get(request_id, 0):
                order.late += 1

    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break  # the recording ended inside of a line
            _, _, rest = line.partition(b"] ")
            if b" lua] " not in line[:60]:
                close_call()
                offered, wrote = {}, Counter()
                if rest.startswith(b'"FCALL" ') and b'_append" ' in rest[:80]:
                    # FCALL name 1 prefix now settings worker, then packed seven of each entry: id, epoch, …
                    packed = msgspec.msgpack.decode(_unescaped(_PART.findall(rest)[7]))
                    offered = {packed[at].encode(): packed[at + 1] for at in range(0, len(packed), 7)}
            elif rest.startswith(b'"HSET" ') and b'"ep" ' in rest:
                parts = _PART.findall(rest)
                request_id, epoch = parts[1].rpartition(b":")[2], int(parts[parts.index(b"ep") + 1])
                if epoch < epochs.get(request_id, 0):
                    order.violations.append(f"{request_id!r} went from epoch {epochs[request_id]} to {epoch}")
                order.claims += epoch > 0
                epochs[request_id] = epoch
            elif rest.startswith(b'"XADD" ') and _LOG in rest[:120]:
                parts = _PART.findall(rest)
                request_id, seq = parts[1].rpartition(b":")[2], int(parts[2].partition(b"-")[0])
                wrote[request_id] += 1
                order.written += 1
                if seq <= last.get(request_id, 0):
                    order.violations.append(f"{request_id!r} got seq {seq} after {last[request_id]}")
                last[request_id] = seq
                # Only appends are checked: Redis itself writes some terminal events, and some writes repair a log.
                if request_id in offered and offered[request_id] != epochs.get(request_id, offered[request_id]):
                    order.violations.append(
                        f"{request_id!r} was written under epoch {offered[request_id]}, "
                        f"when it had {epochs[request_id]} already"
                    )
    return order
