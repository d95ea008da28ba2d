"""The sockets of the HTTP client: plain TCP, and TLS; opened directly, or through a proxy's tunnel.

Nothing here reads the environment. `HTTP_PROXY` and `HTTPS_PROXY` name no proxy, and `SSL_CERT_FILE`, `SSL_CERT_DIR`
and `SSLKEYLOGFILE` change nothing about TLS: what a process is started with must not redirect the requests to its own
child, nor reveal them. A proxy and a file of certificates are settings.
"""

import errno
import functools
import ipaddress
import os
import re
import socket
import ssl
from typing import Protocol
from urllib.parse import urlsplit

import attrs
import certifi
import trio

from llmactors.http.arrivals import Arrivals, WatchedSocket
from llmactors.http.client_errors import BadResponse, ConnectFailed, ConnectionCut, ConnectTimeout
from llmactors.http.host_names import can_be_looked_up
from llmactors.http.response import ResponseParser

_READ_BYTES = 16 * 1024
"""The bytes that are read at once. Python allocates all of them before it knows how many there are, so a large number
leaves holes in the heap, by which the process grows."""
BROKEN = (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a socket raises once the connection is lost."""


@attrs.frozen
class Origin:
    """A server: how it is reached, and the path below which it is asked."""

    host: str
    port: int
    is_tls: bool
    authority: str
    """The value of the `Host` header."""
    prefix: str
    """The URL's path, without a slash at the end."""

    @classmethod
    def parse(cls, url: str) -> "Origin":
        """Parses `http://HOST[:PORT][/PATH]`, or the same with `https`. Raises `ValueError`."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no URL of the form http://HOST:PORT/PATH")
        if parts.port == 0:
            raise ValueError(f"the port of {url!r} is 0, where no server listens")
        if parts.username or parts.password:
            raise ValueError(f"the URL of {parts.hostname} holds a user or a password; leave them out")
        if not parts.netloc.isascii():
            raise ValueError(f"the host {parts.hostname!r} is not ASCII; write it in punycode (xn--…)")
        if not can_be_looked_up(parts.hostname):
            raise ValueError(f"{parts.hostname!r} cannot be the name of a host")
        if not re.fullmatch(r"[!-~]*", parts.path):
            raise ValueError(f"the path {parts.path!r} of the URL is not ASCII; percent-encode it")
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        return cls(parts.hostname, port, is_tls, parts.netloc.removesuffix(":"), parts.path.rstrip("/"))


class ClientSocket(Protocol):
    """An open connection, for one task at a time."""

    async def send(self, data: bytes) -> None:
        """Returns once the kernel has all bytes. Raises one of `BROKEN`."""

    async def receive(self) -> bytes:
        """Waits for bytes; empty at the end of the connection. Raises one of `BROKEN`."""

    def watch(self, arrivals: Arrivals) -> WatchedSocket | None:
        """Has `arrivals` read the socket. None where the bytes of the socket are not those of the connection."""

    def is_quiet(self) -> bool:
        """Whether nothing has come. An idle connection that the server closed or wrote to is not quiet."""

    def close(self) -> None:
        """Closes the connection at once."""


class PlainSocket:
    """A TCP socket.

    A read waits first and reads then: when the next token of a stream is awaited, nearly always nothing has come yet,
    and a read at once would cost a system call and an exception.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue

    def watch(self, arrivals: Arrivals) -> WatchedSocket | None:
        return arrivals.watch(self._socket)

    def is_quiet(self) -> bool:
        return _is_quiet(self._socket)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def detach(self) -> socket.socket:
        """The socket itself, for a protocol above; this object is of no use afterwards."""
        return self._socket


class TlsSocket:
    """TLS above a TCP socket. Closing sends no close_notify: to send one could block, and HTTP needs none."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], sock: socket.socket) -> None:
        self._stream = stream
        self._socket = sock

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_READ_BYTES))

    def watch(self, arrivals: Arrivals) -> WatchedSocket | None:  # noqa: ARG002 - TLS may hold bytes above the socket
        return None

    def is_quiet(self) -> bool:
        return _is_quiet(self._socket)

    def close(self) -> None:
        self._stream.transport_stream.socket.close()


def _is_quiet(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def open_socket(
    origin: Origin, *, connect_s: float, proxy: str = "", tls: ssl.SSLContext | None = None
) -> ClientSocket:
    """Opens a connection to `origin` within `connect_s`.

    Args:
        origin: The server.
        connect_s: The bound on the whole of it: the name's look-up, TCP, the proxy's tunnel and TLS.
        proxy: `http://HOST:PORT` of a proxy that tunnels (CONNECT); empty: the connection is direct.
        tls: The TLS context; None: the connection has no TLS.

    Raises:
        ConnectTimeout: The time was up.
        ConnectFailed: The connection was refused, or TLS or the proxy failed.
    """
    with trio.move_on_after(connect_s):
        try:
            return await _open(origin, proxy, tls)
        except (*BROKEN, BadResponse, ConnectionCut) as error:
            raise ConnectFailed(f"no connection to {origin.authority}: {_reason(error)}") from error
    raise ConnectTimeout(f"no connection to {origin.authority} within {connect_s:g} s")


async def _open(origin: Origin, proxy: str, tls: ssl.SSLContext | None) -> ClientSocket:
    if proxy:
        between = Origin.parse(proxy)
        connection = await _connect(between.host, between.port)
    else:
        connection = await _connect(origin.host, origin.port)
    try:
        if proxy:
            await _tunnel(connection, origin)
        return connection if tls is None else await _secure(connection.detach(), origin.host, tls)
    except BaseException:
        connection.close()
        raise


async def _connect(host: str, port: int) -> PlainSocket:
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        # A name may have several addresses, of which some answer and some do not: Trio tries them in turn.
        stream = await trio.open_tcp_stream(host, port)
        return PlainSocket(socket.socket(fileno=stream.socket.detach()))
    # There is one address, and a plain connect takes a quarter of the time.
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex((host, port))
        if code == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except BaseException:
        sock.close()
        raise
    if code:
        sock.close()
        raise OSError(code, os.strerror(code))
    return PlainSocket(sock)


async def _tunnel(connection: PlainSocket, origin: Origin) -> None:
    """Has the proxy connect to `origin` (RFC 9110, 9.3.6)."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    await connection.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("ascii"))
    parser = ResponseParser("CONNECT")
    while parser.head is None:
        data = await connection.receive()
        if not data:
            parser.feed_eof()
        parser.feed(data)
    if parser.head.status >= 300 or parser.rest:
        raise ConnectFailed(f"the proxy does not connect to {target}: it answered {parser.head.status}")


async def _secure(sock: socket.socket, host: str, tls: ssl.SSLContext) -> TlsSocket:
    transport = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    stream = trio.SSLStream(transport, tls, server_hostname=host, https_compatible=True)
    await stream.do_handshake()
    return TlsSocket(stream, sock)


@functools.cache
def tls_context(ca_file: str) -> ssl.SSLContext:
    """The TLS context of clients.

    Args:
        ca_file: A PEM file of the certificate authorities to trust; empty: those that browsers trust (certifi).

    Raises:
        ValueError: The file cannot be read, or holds no certificate.
    """
    # Not `create_default_context`, which reads SSLKEYLOGFILE, and without a file SSL_CERT_FILE and SSL_CERT_DIR.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file or certifi.where())
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"the file of certificate authorities {ca_file!r} cannot be used: {error}") from error
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        return str(error.__cause__)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
