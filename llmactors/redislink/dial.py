"""Connects to the server at an address, logs in, and finds out which server answers."""

import contextlib
import os
import socket
import ssl
from typing import Any

import trio

from llmactors.errors import OperatorError
from llmactors.redislink.address import Address, Endpoint
from llmactors.redislink.connection import RedisConnection
from llmactors.redislink.errors import (
    AccessDenied,
    Busy,
    LinkDown,
    Loading,
    MasterDown,
    OutcomeUnknown,
    ReplyError,
    Unreachable,
    UnusableServer,
    reason_of,
)  # fmt: skip
from llmactors.redislink.settings import LinkSettings, ServerIdentity
from llmactors.redislink.transport import SocketTransport, TlsTransport, Transport

_OLDEST = 7


async def dial(address: Address, endpoint: Endpoint, settings: LinkSettings) -> Transport:
    """Connects, with a TLS handshake if the address asks for TLS. Raises `Unreachable` or `UnusableServer`."""
    where = f"Redis at {endpoint}"
    try:
        if endpoint.path:
            stream = await trio.open_unix_socket(endpoint.path)
        else:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    except OSError as error:
        raise Unreachable(f"cannot connect to {where}: {_reason(error)}") from error
    if not endpoint.path:
        _tune(stream, settings)
    if address.tls is None:
        return SocketTransport(socket.socket(fileno=stream.socket.detach()))
    secure = trio.SSLStream(stream, address.tls, server_hostname=endpoint.host)
    try:
        await secure.do_handshake()
    except BaseException as error:
        stream.socket.close()
        if isinstance(error, (trio.BrokenResourceError, OSError)):
            cause = error.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise UnusableServer(
                    f"{where} has a certificate that is not trusted: {cause.verify_message}"
                ) from error
            if isinstance(cause, ssl.SSLError):
                raise UnusableServer(f"{where} failed in TLS: {cause.reason or 'no TLS there'}") from error
            raise Unreachable(f"{where} closed the connection in the TLS handshake") from error
        raise
    return TlsTransport(secure)


def _tune(stream: trio.SocketStream, settings: LinkSettings) -> None:
    # Trio has set TCP_NODELAY. If the peer acknowledges no bytes for `command_s`, the connection ends.
    with contextlib.suppress(OSError, AttributeError):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(settings.command_s * 1000)))


def _reason(error: BaseException) -> str:
    """The text of the innermost error."""
    while True:
        if isinstance(error, socket.gaierror):
            return f"unknown host ({error.strerror})"
        inner: BaseException | None = error.__cause__
        if isinstance(error, BaseExceptionGroup):
            inner = error.exceptions[0]
        if inner is None:
            # The text of Trio's error repeats the address.
            number = error.errno if isinstance(error, OSError) else None
            return os.strerror(number) if number else str(error).partition("\n")[0]
        error = inner


async def greet(connection: RedisConnection, address: Address, where: Endpoint, name: str) -> ServerIdentity:
    """Logs in, names the connection, selects the database, and returns which server answers.

    Raises:
        UnusableServer: The password is wrong, or the server is too old, or it does not speak RESP3.
        Unreachable: The connection ended.
        Loading, Busy, MasterDown: The server cannot serve yet.
    """
    server = f"Redis at {where}"
    login = ("AUTH", address.username or "default", address.password) if address.password else ()
    try:
        hello = await connection.greet("HELLO", "3", *login, "SETNAME", _client_name(name))
    except AccessDenied as error:
        raise _denied(server, error, address) from None
    except (Loading, Busy, MasterDown):
        raise
    except ReplyError as error:
        raise _not_welcome(server, error) from None
    except (LinkDown, OutcomeUnknown) as error:
        if "not RESP3" in (connection.closing or ""):
            raise UnusableServer(f"{where} does not speak Redis's protocol") from error
        raise Unreachable(f"{server} ended the connection: {connection.closing}") from error
    identity = _identity(hello, server)
    try:
        if address.db:
            await connection.call("SELECT", address.db)
        run_id = await _run_id(connection)
        await _ping(connection)
    except (LinkDown, OutcomeUnknown) as error:
        raise Unreachable(f"{server} ended the connection: {connection.closing}") from error
    except (Loading, Busy, MasterDown):
        raise
    except ReplyError as error:
        raise UnusableServer(f"{server} refused database {address.db}: {error.text}") from None
    return ServerIdentity(identity.kind, identity.version, identity.role, run_id)


async def _run_id(connection: RedisConnection) -> str | None:
    try:
        info = await connection.call("INFO", "server")
    except (Loading, Busy, MasterDown):
        raise
    except ReplyError:
        return None  # the user may not send INFO, or the server has no INFO under this name
    for line in info.decode("utf-8", "replace").splitlines() if isinstance(info, bytes) else ():
        if line.startswith("run_id:"):
            return str(line.partition(":")[2].strip())
    return None


async def _ping(connection: RedisConnection) -> None:
    """Raises `Loading` for a server that still loads its data: such a server answers HELLO, but not PING."""
    try:
        await connection.call("PING")
    except (Loading, Busy, MasterDown):
        raise
    except ReplyError:
        pass  # the next command meets the same error and raises it


def _identity(hello: Any, server: str) -> ServerIdentity:
    if not isinstance(hello, dict):
        raise UnusableServer(f"{server} does not speak RESP3")
    texts = {
        key: value.decode("utf-8", "replace")
        for key, value in hello.items()
        if isinstance(key, bytes) and isinstance(value, bytes)
    }
    version = texts.get(b"version", "")
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) < _OLDEST:
        raise UnusableServer(f"{server} is version {version or '?'}: {_OLDEST}.0 or newer is needed")
    return ServerIdentity(texts.get(b"server", "redis"), version, texts.get(b"role", "master"))


def _not_welcome(server: str, error: ReplyError) -> OperatorError:
    if error.word == "NOPROTO" or "unknown command" in error.text.lower():
        return UnusableServer(f"{server} is too old, it does not know HELLO 3: {_OLDEST}.0 or newer is needed")
    if error.word == "DENIED":
        return UnusableServer(f"{server} is in protected mode: it needs a password, or `protected-mode no`")
    return Unreachable(f"{server} refused the login: {reason_of(error)}")


def _denied(server: str, error: AccessDenied, address: Address) -> OperatorError:
    if error.word == "NOPERM":
        # The user exists, and an operator can widen its rights while the node runs.
        return Unreachable(f"{server} denies access: {reason_of(error)}")
    if error.word == "NOAUTH" or not address.password:
        return UnusableServer(f"{server} needs a password: redis://:PASSWORD@HOST:PORT")
    who = f" of user {address.username}" if address.username else ""
    return UnusableServer(f"{server} does not accept the password{who}")


def _client_name(name: str) -> str:
    """The name as Redis takes it: printable ASCII without spaces."""
    return "".join(letter if "!" <= letter <= "~" else "-" for letter in name) or "llmactors"
