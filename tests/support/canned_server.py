"""A server on a real socket that sends and cuts what a script says, with one thread for each connection."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Self

import attrs


@attrs.frozen
class Wait:
    """Sends nothing for some seconds; None: until the server stops."""

    seconds: float | None = None


@attrs.frozen
class Cut:
    """Closes the connection, with an RST if `reset` is true."""

    reset: bool = False


@attrs.frozen
class Asked:
    """One request that the server received."""

    number: int
    """The number of the request over all connections, from 0."""
    head: str
    body: bytes


class CannedServer:
    """Answers each HTTP request with the steps that `script` yields for it. A context manager."""

    def __init__(self, script: Callable[[Asked], Iterator["bytes | Wait | Cut"]]) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._turn = threading.Lock()
        """Held while a request gets its number: two connections have a thread each."""

    def __repr__(self) -> str:
        return f"<CannedServer {self.url} asked={len(self.asked)}>"

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops listening, and then ends all waits and connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        held = b""
        with connection, contextlib.suppress(OSError):
            while not self._over.is_set():
                while not (whole := _split(held)):
                    try:
                        data = connection.recv(65536)
                    except TimeoutError:
                        if self._over.is_set():
                            return
                        continue
                    if not data:
                        return
                    held += data
                head, body, held = whole
                with self._turn:
                    asked = Asked(len(self.asked), head, body)
                    self.asked.append(asked)
                if not self._answer(connection, asked):
                    return

    def _answer(self, connection: socket.socket, asked: Asked) -> bool:
        """Sends the steps of one answer; False if the connection must be closed afterwards."""
        for step in self._script(asked):
            match step:
                case Wait():
                    if self._over.wait(step.seconds):
                        return False
                case Cut():
                    if step.reset:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return False
                case _:
                    connection.sendall(step)
        return True


def _split(held: bytes) -> tuple[str, bytes, bytes] | None:
    """The head and body of the first request, and the bytes after it; None while the request is incomplete."""
    head, found, rest = held.partition(b"\r\n\r\n")
    if not found:
        return None
    text = head.decode()
    _, _, length = text.lower().partition("content-length: ")
    size = int(length.split("\r\n")[0]) if length else 0
    return (text, rest[:size], rest[size:]) if len(rest) >= size else None
