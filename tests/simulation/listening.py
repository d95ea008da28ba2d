"""Addresses of gateways that only this process can reach: Unix sockets, whose bytes arrive at once."""

import socket
from pathlib import Path

import trio

from llmactors.http.client_socket import PlainSocket
from llmactors.http.server import BACKLOG, ListeningSocket


class SimulatedAddress(ListeningSocket):
    """Stands for `http://127.0.0.1:PORT`. A path in `folder` is what clients connect to."""

    def __init__(self, folder: Path, port: int) -> None:
        self.path = folder / f"gateway-{port}"
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.bind(str(self.path))
        self.url = f"http://127.0.0.1:{port}"

    def listen(self) -> None:
        self.socket.listen(BACKLOG)

    def close(self) -> None:
        self.socket.close()
        self.path.unlink(missing_ok=True)


class Clients:
    """Connects clients to gateways, and cuts the clients of a gateway that was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, list[socket.socket]] = {}

    def __repr__(self) -> str:
        return f"<Clients {self._folder}>"

    async def connect(self, _host: str, port: int) -> PlainSocket:
        """Takes the place of `http.client_socket._connect`."""
        await trio.lowlevel.checkpoint()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(str(self._folder / f"gateway-{port}"))
        except OSError:
            sock.close()
            raise
        self._open.setdefault(port, []).append(sock)
        return PlainSocket(sock)

    def cut(self, port: int) -> None:
        """Ends all connections to a gateway, in the middle of whatever they do."""
        for sock in self._open.pop(port, []):
            if sock.fileno() >= 0:
                sock.shutdown(socket.SHUT_RDWR)
