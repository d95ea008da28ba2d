"""A real Redis or Valkey server that executes the simulation's commands one at a time, and can lose what it knows."""

import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from llmactors.testing.redis_server import RedisServer
from tests.simulation.determinism import BEGIN_S
from tests.simulation.expiry import TICK, encode_command, in_virtual_time

CLOCK_MS = 9_999_999_999_999
"""What the nodes send as the time of a call. The store puts the virtual time in its place when it executes the call."""
_CLOCK = str(CLOCK_MS).encode()
_PING = b"*1\r\n$4\r\nPING\r\n"
_PONG = b"+PONG\r\n"
_NIL = b"$-1\r\n"
_READ_BYTES = 1 << 20
_SERVER_READS_BYTES = 8 * 1024
"""Fewer bytes than the server reads of a connection in one pass."""


class Store:
    """The server. A context manager.

    The socket calls block, so no task runs while a command is executed. Times to live count in virtual time.
    """

    def __init__(self, binary: str | None = None) -> None:
        self.binary = binary
        self._directory = tempfile.TemporaryDirectory(prefix="llmactors-simulation-")
        self._path = str(Path(self._directory.name) / "redis.sock")
        self._server = RedisServer(binary, appendfsync="no", unixsocket=self._path)

    def __repr__(self) -> str:
        return f"<Store {self._server!r}>"

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._control = self._open()
        self.client = self._server.client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._control.close()
        self._server.__exit__()
        self._directory.cleanup()

    @property
    def server(self) -> RedisServer:
        """The server itself, past the simulated network."""
        return self._server

    @property
    def port(self) -> int:
        """The server's port on 127.0.0.1."""
        return self._server.port

    def clear(self) -> None:
        """Forgets everything, for a new simulation."""
        self.client.config_set("maxmemory", 0)
        self.client.flushall()
        self.client.function_flush()

    def connect(self) -> socket.socket:
        """A connection of one node, which the server has accepted."""
        sock = self._open()
        self.barrier()
        return sock

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self._path)
        return sock

    def execute(self, sock: socket.socket, commands: bytes) -> None:
        """Executes whole commands. All that they cause can be read then: replies, and pushes to others."""
        now = b"%d" % ((BEGIN_S + trio.current_time()) * 1000)
        self._control.sendall(encode_command([b"EVAL", TICK.encode(), b"0", now]))
        assert self._control.recv(_READ_BYTES) == _NIL, "the virtual time was not told"
        sock.sendall(in_virtual_time(commands).replace(_CLOCK, now))
        self.barrier(2 + len(commands) // _SERVER_READS_BYTES)

    def barrier(self, passes: int = 2) -> None:
        """Waits until the server has written all that earlier commands cause.

        In one pass the server accepts, or reads so much of each connection, and writes all answers before the next
        pass. Each question here takes one pass, so behind the second answer, all of the first pass was written.
        """
        for _ in range(passes):
            self._control.sendall(_PING)
            answer = b""
            while len(answer) < len(_PONG):
                answer += self._control.recv(len(_PONG) - len(answer))
            assert answer == _PONG, answer

    def snapshot(self) -> dict[bytes, tuple[bytes, int]]:
        """All keys and values, as a file that was synced at this moment would have them."""
        names: list[bytes] = sorted(self.client.keys("*"))  # type: ignore[arg-type]
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.dump(name)
            pipe.pexpiretime(name)  # type: ignore[arg-type] # redis-py takes bytes too
        found = pipe.execute()
        return {
            name: (found[2 * place], max(0, found[2 * place + 1]))
            for place, name in enumerate(names)
            if found[2 * place] is not None
        }

    def restore(self, snapshot: dict[bytes, tuple[bytes, int]]) -> None:
        """Goes back to an earlier state, as a server does that starts from its file."""
        pipe = self.client.pipeline(transaction=False)
        pipe.flushall()
        for name, (value, ttl_ms) in snapshot.items():
            pipe.restore(name, ttl_ms, value, absttl=True)
        pipe.execute()


def receive_nowait(sock: socket.socket) -> bytes:
    """What the server has written to a connection; empty for nothing."""
    try:
        return sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
