"""The link to Redis: one pipelined connection at a time, which is made again after each loss.

A command ends in its reply, in the server's error, in `LinkDown` if it was not sent, or in `OutcomeUnknown` if its
reply was lost. The link never sends a command twice.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from redis.backoff import DecorrelatedJitterBackoff

from llmactors.actors import fatal
from llmactors.errors import LlmactorsError, OperatorError, Unavailable
from llmactors.redislink.address import parse_address
from llmactors.redislink.call import Call
from llmactors.redislink.connection import RedisConnection
from llmactors.redislink.dial import dial, greet
from llmactors.redislink.errors import (
    Busy,
    LinkDown,
    Loading,
    MasterDown,
    NoSuchFunction,
    Refused,
    ReplyError,
    Unreachable,
    UnusableServer,
    reason_of,
)
from llmactors.redislink.protocol import Argument
from llmactors.redislink.sentinel import find_master
from llmactors.redislink.settings import LinkSettings, LinkStatistics, ServerIdentity
from llmactors.redislink.slots import find_holder, slot_of

_DEFAULTS = LinkSettings()
_PATIENCE_S = 1.0
"""With `starts_without_server`, `run` counts as started after this time, though the first connect is not decided."""


class RedisLink:
    """One pipelined RESP3 connection. The link reconnects after each loss while `run` runs.

    `tag` is the hash tag of all keys that the link is used for: the link connects to its node of a Redis Cluster.

    `on_push` gets each RESP3 push, as in `[b"message", channel, payload]`; an exception from `on_push` ends `run`.
    `on_connect` gets the `call` of each new connection, before any other command; an exception from it closes that
    connection. Subscriptions end with their connection, so `on_connect` is the place to subscribe.

    Raises:
        ConfigError: The URL is wrong. The message does not show the password.
    """

    def __init__(
        self,
        url: str,
        settings: LinkSettings = _DEFAULTS,
        *,
        name: str = "llmactors",
        tag: str = "",
        on_push: Callable[[list[Any]], None] | None = None,
        on_connect: Callable[[Call], Awaitable[None]] | None = None,
    ) -> None:
        self._address = parse_address(url)
        self._nodes = self._address.nodes
        self._slot = slot_of(tag) if self._nodes else None
        self._settings = settings
        self._name = name
        self._on_push = on_push
        self._on_connect = on_connect
        self._dialed: RedisConnection | None = None
        self._connection: RedisConnection | None = None  # the same connection, once `call` may use it
        self._up = trio.Event()
        self._trouble = trio.Event()
        self._error_replies: Counter[str] = Counter()
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
        """Whether a command can be sent now."""
        return self._connection is not None and self._connection.closing is None

    @property
    def is_clustered(self) -> bool:
        """Whether the servers are a Redis Cluster."""
        return self._slot is not None

    async def wait_up(self) -> None:
        """Returns once the link is up."""
        await trio.lowlevel.checkpoint()
        while not self.is_up:
            await self._up.wait()

    async def call(self, *args: Argument) -> Any:
        """Returns the command's reply: bytes, int, float, bool, None, list or dict.

        An error inside a list is an item of the list. If the caller is cancelled, the outcome of its command is
        unknown. SUBSCRIBE and similar commands return the last of the pushes that answer them.

        Raises:
            ReplyError: The server's error; `Refused` if the command was not executed.
            LinkDown: The command was not sent: there is no connection, or the queue is full.
            OutcomeUnknown: The command was sent, and the connection ended before the reply.
            TooLarge: The command alone is larger than `max_queued_bytes`.
            ValueError: The command would change replies for others on the connection (MONITOR, RESET, HELLO, …).
        """
        if (connection := self._connection) is None:
            # A checkpoint, so that a caller that retries at once does not keep other tasks from running.
            await trio.lowlevel.checkpoint()
            raise LinkDown
        try:
            return await connection.call(*args)
        except ReplyError as error:
            if not isinstance(error, NoSuchFunction):
                self._error_replies[error.kind] += 1
                self._note_trouble()
            if self._slot is not None and error.word == "MOVED":
                connection.close("another node of the Redis Cluster has the slot now")
            raise

    async def ask(self, *args: Argument) -> Any:
        """As `call`, but returns None for an error reply, which is not counted: the server may forbid the command."""
        if (connection := self._connection) is None:
            await trio.lowlevel.checkpoint()
            raise LinkDown
        try:
            return await connection.call(*args)
        except ReplyError:
            return None

    async def wait_trouble(self) -> None:
        """Returns at the next loss of the connection, failed connect, or error reply."""
        await self._trouble.wait()

    def _note_trouble(self) -> None:
        self._trouble.set()
        self._trouble = trio.Event()

    def _note_failure(self, error: Exception) -> None:
        """Keeps the reason why a connection failed. Raises an error that no new connection can mend."""
        if fatal(error) is not None:
            raise error
        self._last_error = reason_of(error)
        self._note_trouble()

    def send_nowait(self, *args: Argument) -> None:
        """Sends a command whose reply nobody waits for. Drops the command if the link is down or its queue full."""
        if (connection := self._connection) is not None:
            try:
                connection.send_nowait(*args)
            except LlmactorsError:
                return

    def statistics(self) -> LinkStatistics:
        """The link's state now, and its counts since it was made."""
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
            error_replies=dict(self._error_replies),
            last_error=(now.closing if now else None) or self._last_error,
            server=self._server,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the link up until cancelled. Reports `started` once the link is up for the first time; or, with
        `starts_without_server`, once the first connect failed for a reason that may pass.

        `run` waits for a server that still loads its data.

        Raises:
            OperatorError: Before `started`, the first connect failed for `wait_for_server_s`; or at once where waiting
                cannot help: a wrong password, a certificate that is not trusted, a server that is too old.
            Exception: The exception that `on_push` raised; or the one that `on_connect` raised at the first connect, if
                it is not a `ReplyError` or the loss of the connection.
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
            except Exception as error:  # noqa: BLE001 - the link reconnects after any error that can be mended
                self._note_failure(error)
                if not started:
                    self._give_up(error, deadline)
                    if self._settings.starts_without_server:
                        up()
            else:
                # The pauses start anew only after a connection that lasted: a server may accept and close at once.
                if lived_s > self._settings.backoff_max_s:
                    self._failures = 0
                    self._backoff.reset()
            self._failures += 1
            await trio.sleep(self._backoff.compute(self._failures))

    def _give_up(self, error: Exception, deadline: float) -> None:
        """Raises the error of the first connect, or returns if the link is to try again."""
        if isinstance(error, (Loading, Busy, MasterDown)):
            return
        if self._settings.starts_without_server and isinstance(error, Unreachable | Unavailable):
            return
        if isinstance(error, Unreachable | Refused | LinkDown) and trio.current_time() < deadline:
            return
        if isinstance(error, OperatorError):
            raise error
        if isinstance(error, ReplyError):
            raise UnusableServer(f"the server at {self._address} cannot be used: {reason_of(error)}") from error
        raise error

    async def _serve(self, up: Callable[[], None]) -> float:
        """Runs one connection from its first byte to its end. Returns how long it was up, in seconds."""
        failure: Exception | None = None
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            # No exception leaves this block, since the nursery would wrap it.
            slow = trio.CancelScope()
            if self._settings.starts_without_server:
                nursery.start_soon(_start_meanwhile, slow, up)
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
            finally:
                slow.cancel(reason="the connect has succeeded or failed")
        self._forget()
        if failure is not None:
            raise failure
        return trio.current_time() - began

    async def _connect(self, nursery: trio.Nursery) -> RedisConnection:
        """A connection that runs in `nursery`, after the login and `on_connect`."""
        settings = self._settings
        identity: ServerIdentity | None = None
        with trio.move_on_after(settings.connect_s):
            endpoint = self._address.endpoint
            if self._address.sentinels:
                endpoint = await find_master(self._address, settings)
            elif self._slot is not None:
                endpoint, self._nodes = await find_holder(self._address, self._nodes, self._slot, settings)
            connection = RedisConnection(await dial(self._address, endpoint, settings), settings, self._on_push)
            self._dialed = connection
            nursery.start_soon(connection.run)
            identity = await greet(connection, self._address, endpoint, self._name)
        if identity is None:
            hint = " (does it speak TLS?)" if self._address.tls else ""
            raise Unreachable(f"no answer from Redis at {self._address} in {settings.connect_s} s{hint}")
        if (self._address.sentinels or self._slot is not None) and identity.role != "master":
            raise Unreachable(f"Redis at {endpoint} is not the master, though it was named as the master")
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
        """Adds up the counts of a connection that ended. Raises the exception of its `on_push`."""
        self._connection, connection, self._dialed = None, self._dialed, None
        if connection is None:
            return
        self._last_error = connection.closing
        self._note_trouble()
        self._commands += connection.commands
        self._unknown += connection.unknown
        self._overflows += connection.overflows
        if connection.fault is not None:
            raise _PushFailed(connection.fault)


async def _start_meanwhile(slow: trio.CancelScope, up: Callable[[], None]) -> None:
    """Lets the caller of `run` go on while a connect takes long."""
    with slow:
        await trio.sleep(_PATIENCE_S)
        up()


class _PushFailed(Exception):
    """Carries the exception that `on_push` raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause
