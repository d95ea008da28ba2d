"""The link to Redis: one pipelined connection at a time, made again for as long as it is wanted.

What comes of a command is one of three: its reply, the server's error, or `OutcomeUnknown`. Nothing is ever sent twice.
`LinkDown` says that a command was not sent at all.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from redis.backoff import DecorrelatedJitterBackoff

from llmactors.errors import LlmactorsError, OperatorError
from llmactors.redislink.address import parse_address
from llmactors.redislink.connection import RedisConnection
from llmactors.redislink.dial import dial, greet
from llmactors.redislink.errors import (
    Busy,
    LinkDown,
    Loading,
    MasterDown,
    Refused,
    ReplyError,
    Unreachable,
    UnusableServer,
)
from llmactors.redislink.protocol import Argument
from llmactors.redislink.sentinel import find_master
from llmactors.redislink.settings import LinkSettings, LinkStatistics, ServerIdentity

Call = Callable[..., Awaitable[Any]]

_DEFAULTS = LinkSettings()


class RedisLink:
    """One pipelined RESP3 connection, kept up: it reconnects by itself for as long as `run` runs.

    `on_push` gets each RESP3 push, as in `[b"message", channel, payload]`; what it raises ends `run`. `on_connect` gets
    the `call` of each new connection and runs before anybody else's commands; what it raises closes that connection.
    Subscriptions end with a connection: `on_connect` is the place to make them.

    Raises:
        ConfigError: The URL is wrong. The line does not show the password.
    """

    def __init__(
        self,
        url: str,
        settings: LinkSettings = _DEFAULTS,
        *,
        name: str = "llmactors",
        on_push: Callable[[list[Any]], None] | None = None,
        on_connect: Callable[[Call], Awaitable[None]] | None = None,
    ) -> None:
        self._address = parse_address(url)
        self._settings = settings
        self._name = name
        self._on_push = on_push
        self._on_connect = on_connect
        self._dialed: RedisConnection | None = None
        self._connection: RedisConnection | None = None  # the same, once it is for everybody
        self._up = trio.Event()
        self._backoff = DecorrelatedJitterBackoff(cap=settings.backoff_max_s, base=settings.backoff_min_s)
        self._failures = 0
        self._connects = 0
        self._commands = self._unknown = self._overflows = 0
        self._last_error: str | None = None
        self._server: ServerIdentity | None = None

    def __repr__(self) -> str:
        return f"<RedisLink to {self._address}, {'up' if self.is_up else f'down: {self._last_error}'}>"

    @property
    def is_up(self) -> bool:
        """Whether a command would be sent now."""
        return self._connection is not None and self._connection.closing is None

    async def wait_up(self) -> None:
        """Returns once it is up."""
        await trio.lowlevel.checkpoint()
        while not self.is_up:
            await self._up.wait()

    async def call(self, *args: Argument) -> Any:
        """The command's reply: bytes, int, float, bool, None, list or dict.

        Errors inside of a list are its items. A caller that is cancelled does not know what came of its command.
        SUBSCRIBE and its like return the last of the pushes that answer them.

        Raises:
            ReplyError: The server's error; `Refused` where the command was certainly not executed.
            LinkDown: It was not sent: there is no connection, or the queue is full.
            OutcomeUnknown: It was sent, and the connection ended before the reply.
            TooLarge: It is over `max_queued_bytes` all by itself.
            ValueError: It would disturb others on the connection (MONITOR, RESET, HELLO, CLIENT REPLY, …).
        """
        if (connection := self._connection) is None:
            # A caller that tries again at once must not keep the others from running.
            await trio.lowlevel.checkpoint()
            raise LinkDown
        return await connection.call(*args)

    def send_nowait(self, *args: Argument) -> None:
        """Fire and forget: nobody gets the reply. Silently dropped when the link is down or its queue full."""
        if (connection := self._connection) is not None:
            try:
                connection.send_nowait(*args)
            except LlmactorsError:
                return

    def statistics(self) -> LinkStatistics:
        """How it is, and what it has done."""
        now = self._connection
        return LinkStatistics(
            address=str(self._address),
            up=self.is_up,
            connects=self._connects,
            in_flight=now.in_flight if now else 0,
            queued_bytes=now.queued_bytes if now else 0,
            commands=self._commands + (now.commands if now else 0),
            unknown=self._unknown + (now.unknown if now else 0),
            overflows=self._overflows + (now.overflows if now else 0),
            last_error=(now.closing if now else None) or self._last_error,
            server=self._server,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the link up until it is cancelled. Reports that it has started once it is up for the first time.

        A server that is there but loads its data is waited for.

        Raises:
            OperatorError: The first connect failed, and went on failing for `wait_for_server_s`; at once where waiting
                cannot help: a wrong password, a certificate that is not trusted, a server that is too old.
            Exception: What `on_push` raised; and what `on_connect` raised at the first connect, where it is not a
                `ReplyError` or the loss of the connection.
        """
        deadline = trio.current_time() + self._settings.wait_for_server_s
        started = False

        def up() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started()

        while True:
            try:
                lived_s = await self._serve(up)
            except _PushFailed as failed:
                raise failed.cause from None
            except Exception as error:  # noqa: BLE001 - whatever the server does, the link goes on
                self._last_error = error.message if isinstance(error, LlmactorsError) else repr(error)
                if not started:
                    self._give_up(error, deadline)
            else:
                # A server that takes us and throws us out again is no better than one that is away.
                if lived_s > self._settings.backoff_max_s:
                    self._failures = 0
                    self._backoff.reset()
            self._failures += 1
            await trio.sleep(self._backoff.compute(self._failures))

    def _give_up(self, error: Exception, deadline: float) -> None:
        """Raises what ends the first connect, or returns to have it tried again."""
        if isinstance(error, (Loading, Busy, MasterDown)):
            return
        if isinstance(error, Unreachable | Refused | LinkDown) and trio.current_time() < deadline:
            return
        if isinstance(error, OperatorError):
            raise error
        if isinstance(error, ReplyError):
            raise UnusableServer(f"{self._address} does not do what is needed: {error.message}") from error
        raise error

    async def _serve(self, up: Callable[[], None]) -> float:
        """One connection, from the dial to its end. Returns how long it was up, in seconds."""
        failure: Exception | None = None
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            # No exception leaves this block: a nursery would wrap it.
            try:
                connection = await self._connect(nursery)
            except Exception as error:  # noqa: BLE001 - `run` decides what it means
                failure = error
                if self._dialed is not None:
                    self._dialed.close(repr(error))
            else:
                began = trio.current_time()
                self._publish(connection)
                up()
        self._forget()
        if failure is not None:
            raise failure
        return trio.current_time() - began

    async def _connect(self, nursery: trio.Nursery) -> RedisConnection:
        """A connection that runs in `nursery`, greeted and prepared."""
        settings = self._settings
        identity: ServerIdentity | None = None
        with trio.move_on_after(settings.connect_s):
            endpoint = self._address.endpoint
            if self._address.sentinels:
                endpoint = await find_master(self._address, settings)
            connection = RedisConnection(await dial(self._address, endpoint, settings), settings, self._on_push)
            self._dialed = connection
            nursery.start_soon(connection.run)
            identity = await greet(connection, self._address, endpoint, self._name)
        if identity is None:
            hint = " (does it speak TLS?)" if self._address.tls else ""
            raise Unreachable(f"no answer from Redis at {self._address} in {settings.connect_s} s{hint}")
        if self._address.sentinels and identity.role != "master":
            raise Unreachable(f"Redis at {endpoint} is not the master that the Sentinels take it for")
        self._server = identity
        if self._on_connect is not None:
            await self._on_connect(connection.call)
        if connection.closing is not None:
            raise Unreachable(f"Redis at {endpoint} ended the connection: {connection.closing}")
        return connection

    def _publish(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._connects += 1
        self._up.set()
        self._up = trio.Event()

    def _forget(self) -> None:
        """After a connection's end: keeps its figures. Raises what its `on_push` raised."""
        self._connection, connection, self._dialed = None, self._dialed, None
        if connection is None:
            return
        self._last_error = connection.closing
        self._commands += connection.commands
        self._unknown += connection.unknown
        self._overflows += connection.overflows
        if connection.fault is not None:
            raise _PushFailed(connection.fault)


class _PushFailed(Exception):
    """Carries what `on_push` raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause
