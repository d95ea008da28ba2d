"""One connection to the server, from its first byte to its last.

The end of a connection ends every command that waits for a reply: with `OutcomeUnknown` if bytes of the command may
have been sent, and with `LinkDown` if none were.
"""

from collections.abc import Callable
from typing import Any

import trio
import trio.lowlevel
from outcome import Error, Value

from llmactors.errors import LlmactorsError, TooLarge
from llmactors.redislink.errors import LinkDown, OutcomeUnknown, ProtocolError, ReadOnly, ReplyError
from llmactors.redislink.protocol import Argument, Pipeline, pack, pushes_expected
from llmactors.redislink.settings import LinkSettings
from llmactors.redislink.transport import CLOSED, Transport

_TOO_MANY_WAIT = "the ledger is slow: too many commands wait for it"


class _Slot:
    """One command that waits for its reply. If no task waits for the command, its reply is dropped."""

    __slots__ = ("heartbeat", "since", "task")

    def __init__(self, since: float, task: trio.lowlevel.Task | None) -> None:
        self.since = since
        self.task = task
        self.heartbeat = False

    def abandon(self, _: object) -> trio.lowlevel.Abort:
        """Drops the reply when it comes, since the caller was cancelled."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class RedisConnection:
    """Commands of many tasks on one transport. Start `run` as a task before the first `call`."""

    def __init__(
        self, transport: Transport, settings: LinkSettings, on_push: Callable[[list[Any]], None] | None = None
    ) -> None:
        self._transport = transport
        self._settings = settings
        self._on_push = on_push
        self._pipeline: Pipeline[_Slot] = Pipeline()
        self._waiting = self._pipeline.waiting
        self._out: list[bytes] = []  # whole commands, none of whose bytes was sent
        self._out_bytes = 0
        self._rest = b""  # the end of a command that the socket took in part
        self._sending_bytes = 0
        self._sending = False
        self._writer: trio.lowlevel.Task | None = None
        self._scope = trio.CancelScope()
        self._heartbeat: tuple[str, ...] = ("ROLE",)
        self._role: bytes | None = None
        self.closing: str | None = None
        """Why the connection takes no more commands; None while it takes commands."""
        self.closed = False
        self.fault: Exception | None = None
        """The exception that `on_push` raised."""
        self.commands = 0
        self.unknown = 0
        self.overflows = 0

    def __repr__(self) -> str:
        return (
            f"<RedisConnection {self.closing or 'open'}, {self.in_flight} in flight, {self.queued_bytes} bytes queued>"
        )

    @property
    def in_flight(self) -> int:
        """How many commands wait for their replies."""
        return len(self._waiting)

    @property
    def queued_bytes(self) -> int:
        """How many bytes the socket has not taken yet."""
        return self._out_bytes + self._sending_bytes

    async def run(self) -> None:
        """Runs the connection until it is closed. Cancelling `run` closes the connection."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch_deadlines)
        finally:
            self.close("the link was stopped")

    async def call(self, *args: Argument) -> Any:
        """Returns the command's reply. If the caller is cancelled, the reply is dropped when it comes.

        Raises:
            ReplyError: The server's own error.
            LinkDown: The command was not sent.
            OutcomeUnknown: The connection ended before the reply.
        """
        return await self._exchange(args, pushes_expected(args))

    async def greet(self, *args: Argument) -> Any:
        """As `call`, and also takes HELLO, which only a login sends."""
        return await self._exchange(args, 0)

    def send_nowait(self, *args: Argument) -> None:
        """Sends a command whose reply nobody waits for. Raises `LinkDown` if the queue is full."""
        self._enqueue(args, pushes_expected(args), None)

    async def _exchange(self, args: tuple[Argument, ...], pushes: int) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            slot = self._enqueue(args, pushes, trio.lowlevel.current_task())
        except LlmactorsError:
            # A checkpoint, so that a caller that retries at once does not keep other tasks from running.
            await trio.lowlevel.checkpoint()
            raise
        return await trio.lowlevel.wait_task_rescheduled(slot.abandon)

    def close(self, reason: str) -> None:
        """Closes the connection at once, and ends all commands that wait. `reason` is kept in `closing`."""
        if self.closed:
            return
        self.closed = True
        self.closing = self.closing or reason
        self._transport.close()
        self._scope.cancel(reason=reason)
        unsent = len(self._out)
        self._out.clear()
        self._out_bytes = self._sending_bytes = 0
        waiting = list(self._waiting)
        self._waiting.clear()
        for place, slot in enumerate(waiting):
            sent = place < len(waiting) - unsent
            self.unknown += sent and not slot.heartbeat
            if slot.task is not None:
                error: LlmactorsError = OutcomeUnknown() if sent else LinkDown()
                trio.lowlevel.reschedule(slot.task, Error(error))
                slot.task = None

    def _enqueue(self, args: tuple[Argument, ...], pushes: int, task: trio.lowlevel.Task | None) -> _Slot:
        if self.closing is not None:
            raise LinkDown
        data = pack(*args)
        size = len(data)
        settings = self._settings
        if len(self._waiting) >= settings.max_in_flight or self.queued_bytes + size > settings.max_queued_bytes:
            if size > settings.max_queued_bytes:
                raise TooLarge(
                    f"a command of {size} bytes cannot be sent; at most {settings.max_queued_bytes} bytes can"
                )
            self.overflows += 1
            raise LinkDown(_TOO_MANY_WAIT)
        slot = _Slot(trio.current_time(), task)
        idle = not self._waiting and not self._sending
        self._pipeline.expect(slot, pushes)
        self.commands += 1
        if idle and self._send_at_once(data):
            return slot
        self._out.append(data)
        self._out_bytes += size
        if self._writer is not None:
            trio.lowlevel.reschedule(self._writer)
            self._writer = None
        return slot

    def _send_at_once(self, data: bytes) -> bool:
        """Sends a command without the writer task, when nothing else waits. False if the socket takes no byte of it."""
        try:
            taken = self._transport.send_nowait(data)
        except CLOSED:
            return False  # the writer meets the same error
        if 0 < taken < len(data):
            # The writer sends the rest first. The command counts as sent.
            self._rest = data[taken:]
            self._sending_bytes = len(self._rest)
            self._sending = True
            if self._writer is not None:
                trio.lowlevel.reschedule(self._writer)
                self._writer = None
            return True
        return taken == len(data)

    async def _write(self) -> None:
        while True:
            if not self._out and not self._rest:
                self._writer = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_writing)
            batch = self._rest + b"".join(self._out) if self._rest else b"".join(self._out)
            self._rest = b""
            self._out.clear()
            self._out_bytes, self._sending_bytes, self._sending = 0, len(batch), True
            try:
                await self._transport.send_all(batch)
            except CLOSED as error:
                self.close(f"cannot send: {error}")
                return
            self._sending_bytes, self._sending = 0, False

    def _stop_writing(self, _: object) -> trio.lowlevel.Abort:
        self._writer = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _read(self) -> None:
        reason = "the server closed the connection"
        try:
            while data := await self._transport.receive():
                self._deliver(data)
                if self.closing is not None and not self._waiting:
                    reason = self.closing
                    break
        except CLOSED as error:
            reason = f"connection lost: {error}"
        except ProtocolError as error:
            reason = error.message
        self.close(reason)

    def _deliver(self, data: bytes) -> None:
        for slot, reply in self._pipeline.receive(data):
            if slot is None:
                self._push(reply)
                if self.closed:
                    return
                continue
            failed = isinstance(reply, ReplyError)
            if failed and isinstance(reply, ReadOnly):
                self.closing = self.closing or "the server is a read-only replica now"
            if slot.heartbeat:
                self._note_role(reply)
            elif slot.task is not None:
                trio.lowlevel.reschedule(slot.task, Error(reply) if failed else Value(reply))
                slot.task = None

    def _push(self, push: list[Any]) -> None:
        if self._on_push is not None and self.fault is None:
            try:
                self._on_push(push)
            except Exception as error:  # noqa: BLE001 - `RedisLink.run` raises it
                self.fault = error
                self.closing = self.closing or f"on_push raised {type(error).__name__}"
                self.close(self.closing)

    async def _watch_deadlines(self) -> None:
        """Closes the connection if the oldest command gets no reply in time, and sends heartbeats."""
        command_s, every_s = self._settings.command_s, self._settings.ping_every_s
        next_ping = trio.current_time() + every_s
        while True:
            now = trio.current_time()
            deadline = self._waiting[0].since + command_s if self._waiting else now + command_s
            await trio.sleep_until(min(deadline, next_ping))
            now = trio.current_time()
            if self._waiting and self._waiting[0].since + command_s <= now:
                # This process may have been stopped for that long: first read what is in the socket.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                if self._waiting and self._waiting[0].since + command_s <= now:
                    self.close(f"no reply for {command_s} s")
                    return
            if now >= next_ping:
                next_ping = now + every_s
                self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        if self.closing is None and len(self._waiting) < self._settings.max_in_flight:
            try:
                slot = self._enqueue(self._heartbeat, 0, None)
            except LinkDown:
                return
            slot.heartbeat = True
            self.commands -= 1

    def _note_role(self, reply: Any) -> None:
        """Closes the connection if the server's role changed. A user who may not send ROLE sends PING from now on."""
        if isinstance(reply, ReplyError):
            self._heartbeat = ("PING",)
        elif isinstance(reply, list) and reply:
            if self._role is not None and reply[0] != self._role:
                self.closing = self.closing or "the server changed its role"
            self._role = reply[0]
