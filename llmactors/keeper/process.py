"""The keeper's process: accepts connections, holds them, and keeps one gateway that serves and one that is warm."""

import contextlib
import functools
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from llmactors.keeper.connections import Packet
from llmactors.keeper.gateway_process import HEAR_EVERY_S, GatewayProcess, memory_kills, received
from llmactors.keeper.log_line import write_log_line
from llmactors.keeper.protocol import (
    LISTENING_VARIABLE,
    SLOTS_VARIABLE,
    TOKEN_VARIABLE,
    VERSION,
    Active,
    AllGiven,
    BadMessage,
    Beat,
    Go,
    Message,
    StopAccepting,
    Warm,
    encode,
)
from llmactors.keeper.signals import receive_signals
from llmactors.keeper.status import NAME, KeeperStatus, show_status
from llmactors.keeper.table import ConnectionTable
from llmactors.keeper.takeover import STABLE_S, TakeoverOrder

GIVE_UP_AFTER = 8
"""So many gateways may end in a row with none that serves: the length of the streak."""
FULL_WAIT_S = 0.1


class Keeper:
    """`run` ends when the gateway has ended in order, or when none can be kept running."""

    def __init__(
        self, listener: socket.socket, limit: int, times_s: Sequence[float], form: str, command: Sequence[str]
    ) -> None:
        self._table = ConnectionTable(listener, limit)
        [self._start_s, self._frozen_s], self._command = times_s, command
        self._log = functools.partial(write_log_line, form)
        self._status = os.memfd_create(NAME)
        self._token = os.urandom(16).hex()
        self._active: GatewayProcess | None = None
        self._standby: GatewayProcess | None = None
        self._newer: GatewayProcess | None = None
        """The gateway of an upgrade, until it serves. Until then there is a standby of the old version."""
        self._order = TakeoverOrder()
        self._serves = self._has_served = self._accepts = self._asked_to_end = False
        """Whether the active gateway has taken up all connections, whether any had, and whether the address is open."""
        self._ending = self._takeovers = self._upgrades = self._streak = 0
        self._start_at = self._stable_at = self._next_part_at = self._part_at = self._accept_at = 0.0
        self._outcome = ""
        self._code: int | None = None
        self._epoll, self._handlers = select.epoll(), dict[int, Callable[[], None]]()

    def run(self) -> int:
        """Serves until the end, and returns the exit code."""
        reader = receive_signals()
        self._watch(reader, lambda: self._obey(os.read(reader, 256)))
        while self._code is None:
            wait_s = self._tend(time.monotonic())
            for fd, _ in self._epoll.poll(wait_s):
                if fd in self._handlers:
                    self._handlers[fd]()
        for process in self._processes():
            process.signal(signal.SIGKILL)
            os.waitpid(process.pid, 0)
        return self._code

    def _tend(self, now: float) -> float:
        """Does what is due, and returns the time until something else is."""
        due = [now + 60.0]
        self._replace_active()
        if self._active and self._active.answered and not self._serves:
            if now < self._next_part_at:
                due.append(self._next_part_at)
            elif not self._order.must_be_heard or self._active.silence.heard_at > self._part_at:
                self._give_next_part(self._active, now)
        if self._serves and now >= self._stable_at:
            self._order.settled()
        for process in self._processes():
            self._end_useless(process, now, due)
        if not self._standby and (not self._active or (self._serves and not self._ending and not self._newer)):
            due.append(self._start_at)
            if now >= self._start_at:
                self._standby = self._start()
        if self._active and self._active.channel.fileno() in self._handlers:
            self._set_interest(self._active, now, due)
        self._accept_if_possible(now, due)
        return max(0.0, min(due) - now)

    # Gateways.

    def _processes(self) -> set[GatewayProcess]:
        return {each for each in (self._active, self._standby, self._newer) if each}

    def _start(self) -> GatewayProcess | None:
        descriptors = {SLOTS_VARIABLE: self._table.slots, LISTENING_VARIABLE: self._table.listener.fileno()}
        try:
            process = GatewayProcess(self._command, {TOKEN_VARIABLE: self._token}, descriptors)
        except OSError as error:
            self._log("error", f"cannot start a gateway: {error.strerror}")
            self._back_off(fails=True)
            return None
        self._watch(process.channel.fileno(), lambda: self._hear(process))
        return process

    def _end_useless(self, process: GatewayProcess, now: float, due: list[float]) -> None:
        """Ends a process that is not ready in time, or whose loop does not run though it could."""
        why = ""
        takes_over = process is self._active and not self._serves
        if self._has_served and (takes_over or not process.warm):  # the first one may take its time
            due.append(process.started_at + self._start_s)
            if now >= due[-1]:
                why, process.started_at = f"is not ready after {self._start_s:g} s", now
        if process.warm and self._frozen_s:
            if process.silence.has_lasted(self._frozen_s, process.pid, now):
                why, process.frozen_at = f"has done nothing for {self._frozen_s:g} s", process.hear_at
            due.append(process.silence.look_at)
        if why:
            self._log("error", f"the gateway {process.pid} {why}, and is ended")
            process.condemn()

    def _replace_active(self) -> None:
        """Lets a warm gateway take over where none is active, and ends the active one where a newer one is warm."""
        if self._active is None:
            warm = [process for process in (self._newer, self._standby) if process and process.warm]
            if warm:
                self._activate(warm[0])
        elif self._newer and self._newer.warm and self._newer is not self._active:
            self._active.signal(signal.SIGKILL)  # its end is noted, and then the newer one takes over

    def _activate(self, process: GatewayProcess) -> None:
        self._active, process.started_at = process, time.monotonic()
        if process is self._standby:
            self._standby = None
        if not self._has_served and not self._accepts:
            # Before the gateway says that it is ready: clients wait in the kernel's queue until they are accepted.
            self._table.listen()
            self._accepts = True
        process.outbox.append((encode(Go()), -1))
        self._order.begin(self._table.connections)
        process.answered, self._next_part_at = True, 0.0

    def _set_interest(self, process: GatewayProcess, now: float, due: list[float]) -> None:
        """Sends what waits for the gateway, and sets what wakes the keeper: its messages, unless it was just heard."""
        wakes = select.EPOLLIN if now >= process.hear_at or not self._serves else 0
        due.append(now + 60.0 if wakes else process.hear_at)
        wakes |= process.flush() and select.EPOLLOUT
        if wakes != process.wakes:
            process.wakes = wakes
            self._epoll.modify(process.channel, wakes)

    def _give_next_part(self, process: GatewayProcess, now: float) -> None:
        part, process.memory_kills_before = self._order.next_part(now), memory_kills()
        if part is not None:
            self._part_at = process.started_at = now
            process.answered, process.giving = False, self._packets(part)
            return
        self._serves = self._has_served = True
        self._streak, self._stable_at = 0, now + STABLE_S
        if process is self._newer:
            self._newer = None
            self._end_upgrade("upgraded")
            if self._standby:  # it is of the old version
                self._standby.dismissed = True
                self._standby.signal(signal.SIGKILL)
        if self._ending:
            process.signal(signal.SIGTERM)
        self._show()

    def _packets(self, part: Sequence[int]) -> Iterator[Packet]:
        for cid in part:
            if cid in self._table.connections:
                yield from self._table.connections[cid].packets(cid, taken_over=True)
        yield encode(AllGiven()), -1

    def _has_ended(self, process: GatewayProcess, code: int) -> None:
        """Notes the end of a process, after which none of its messages and writes can follow."""
        self._hear(process)
        self._unwatch(process.channel.fileno())
        process.channel.close()
        how = f"the gateway {process.pid} {'ended with code' if code >= 0 else 'was killed by signal'} {abs(code)}"
        if process is self._newer:
            self._newer = None
            self._end_upgrade(f"not upgraded: {how} before it served")
        if process is self._standby:
            self._standby = None
        if process is self._active:
            self._lose_active(process, code, how)
        elif not self._has_served:
            self._code = code if code >= 0 else 128 - code
        elif not process.dismissed:
            self._log("warning", f"{how} before it served")
            self._back_off(fails=process.fails(code))
        self._show()

    def _lose_active(self, process: GatewayProcess, code: int, how: str) -> None:
        self._active, served = None, self._serves
        self._serves = False
        if code == 0 or (code > 0 and (self._ending or not self._has_served)):
            self._code = code
            return
        replaced = bool(self._newer and self._newer.warm)
        self._takeovers += 1
        cut, found, now = self._table.unprotected, None, time.monotonic()
        if not replaced and not (served and now >= self._stable_at):
            ended_at, held = process.frozen_at or now, self._table.connections
            found = self._order.ended_early(held, ended_at, process.death(code), answered=process.answered)
            cut |= set() if found is None else {found}
        self._table.close_all(cut)
        told = f"{how}; the next gateway takes {len(self._table.connections)} connections over, and {len(cut)} are cut"
        self._log("info" if replaced else "warning", told)
        if served:
            self._streak, self._start_at = 0, 0.0
        else:
            self._streak *= found is None  # without the connection that is cut, the next one may serve
            self._back_off(fails=process.fails(code))

    def _back_off(self, *, fails: bool) -> None:
        """Delays the next start, as the actor runtime delays restarts. Kills from outside are no failures."""
        self._start_at = time.monotonic() + min(5.0 if self._active is None else 60.0, 0.05 * 2**self._streak)
        self._streak += fails
        if self._active is None and self._streak >= GIVE_UP_AFTER:
            self._log("critical", f"{self._streak} gateways ended in a row before they served, and the keeper gives up")
            self._code = 1

    def _end_upgrade(self, outcome: str) -> None:
        self._upgrades += 1
        self._outcome = outcome
        self._log("info" if outcome == "upgraded" else "error", outcome)

    # Messages, signals and the ends of processes.

    def _hear(self, process: GatewayProcess) -> None:
        process.hear_at = time.monotonic() + HEAR_EVERY_S
        try:
            for message, fd in received(process.channel):
                if message is None:
                    self._unwatch(process.channel.fileno())
                elif not self._note(process, message, fd) and fd >= 0:
                    os.close(fd)
        except BadMessage as error:
            self._log("error", f"the gateway {process.pid} is ended: {error}")
            process.condemn()

    def _note(self, process: GatewayProcess, message: Message, fd: int) -> bool:
        """Does what a message says, and returns whether its descriptor is held."""
        match message:
            case Warm(version):
                if version != VERSION:
                    self._log("error", f"the gateway {process.pid} needs a newer keeper: restart it once")
                    process.condemn()
                process.warm = version == VERSION
                self._streak = 0 if self._serves else self._streak
                self._show()
            case Beat():
                process.silence.heard()
            case Active():
                now = time.monotonic()
                self._order.taken_up(now)
                process.answered, self._next_part_at = True, now + self._order.settle_s
            case StopAccepting():
                self._ending, self._accepts = self._ending or signal.SIGTERM, False
                with contextlib.suppress(OSError):  # two gateways may drain, one after the other
                    self._table.listener.shutdown(socket.SHUT_RDWR)  # the gateways have copies, so it is not closed
            case _:
                return self._table.change(message, fd)
        return False

    def _obey(self, numbers: bytes) -> None:
        """Acts on signals. Processes that have ended are reaped at each of them: the kernel merges equal signals."""
        for number in numbers:
            if number == signal.SIGHUP and self._active:
                self._active.signal(number)
            elif number == signal.SIGUSR2 and not self._newer:
                self._newer = self._start() if self._has_served and not self._ending else None
                if not self._newer:
                    self._end_upgrade("not upgraded: the gateway starts or drains, or the new one cannot be started")
            elif number in {signal.SIGTERM, signal.SIGINT}:
                self._drain(number)
        self._reap()

    def _drain(self, number: int) -> None:
        """Has the gateway end in order; a second signal ends all at once. A gateway that takes over drains later."""
        self._code = 128 + number if self._asked_to_end else None
        self._asked_to_end = True
        if self._ending:
            return  # the gateway got a signal of its own
        self._ending = number
        if self._active and self._serves:
            self._active.signal(signal.SIGTERM)
        elif not self._has_served:
            for process in self._processes():
                process.signal(signal.SIGTERM)

    def _reap(self) -> None:
        """Notes the ends of processes. The first process of a container reaps those of others too."""
        pid = 1
        while pid:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            for process in self._processes():
                if process.pid == pid:
                    self._has_ended(process, os.waitstatus_to_exitcode(status))

    # Connections.

    def _accept_if_possible(self, now: float, due: list[float]) -> None:
        listener = self._table.listener.fileno()
        due.append(self._accept_at if self._accept_at > now else now + 60.0)
        possible = self._accepts and self._serves and now >= self._accept_at and self._table.has_room
        if possible and listener not in self._handlers:
            self._watch(listener, self._accept)
        elif not possible:
            self._unwatch(listener)

    def _accept(self) -> None:
        if self._active:
            try:
                self._active.outbox.extend(self._table.accept())
            except OSError as error:
                self._log("warning", f"cannot accept connections: {error.strerror}")
                self._accept_at = time.monotonic() + FULL_WAIT_S

    # The loop and the status.

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def _show(self) -> None:
        active = self._active.pid if self._active and self._serves else 0
        standby = self._standby.pid if self._standby and self._standby.warm and not self._standby.dismissed else 0
        show_status(self._status, KeeperStatus(active, standby, self._takeovers, self._upgrades, self._outcome))
