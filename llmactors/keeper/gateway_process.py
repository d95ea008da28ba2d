"""One process of a gateway, as the keeper sees it: its start, and its messages."""

import array
import contextlib
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from llmactors.keeper.connections import Packet
from llmactors.keeper.protocol import MAX_MESSAGE_BYTES, SOCKET_VARIABLE, Message, decode
from llmactors.keeper.silence import Silence
from llmactors.keeper.takeover import Death

_KILLS_FILE = "/proc/vmstat"
HEAR_EVERY_S = 0.004
"""While a gateway serves, its messages wait together for so long. At its end, all of them are read at once."""


class GatewayProcess:
    """Starts the process. `descriptors` are inherited, each by the variable that names it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], descriptors: Mapping[str, int]) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = self._spawn(theirs, command, environ, descriptors)
        self.started_at = time.monotonic()
        """When the process, or the last part of its takeover, began."""
        self.warm = self.answered = False
        """Whether it waits for `Go`, and whether it has answered the last `AllGiven`."""
        self.dismissed = False
        self._condemned = False
        self.silence, self.frozen_at = Silence(self.started_at), 0.0
        self.memory_kills_before = memory_kills()
        """`memory_kills` when the process, or the last part of its takeover, began."""
        self.wakes, self.hear_at = select.EPOLLIN, 0.0
        """The events of the channel that wake the keeper, and when it next looks for messages."""
        self.outbox: deque[Packet] = deque()
        self.giving: Iterator[Packet] = iter(())
        """Packets of a takeover. They are made when the socket takes them, because there may be many."""

    def __repr__(self) -> str:
        return f"<GatewayProcess {self.pid}>"

    def _spawn(
        self, theirs: socket.socket, command: Sequence[str], environ: Mapping[str, str], descriptors: Mapping[str, int]
    ) -> int:
        inherited = {SOCKET_VARIABLE: theirs.fileno(), **descriptors}
        for fd in inherited.values():
            os.set_inheritable(fd, True)
        variables = {**os.environ, **environ, **{name: str(fd) for name, fd in inherited.items()}}
        # It has a group of its own, so that Ctrl-C reaches the keeper alone.
        return os.posix_spawn(command[0], [*command], variables, setpgroup=0)

    def fails(self, code: int) -> bool:
        """Whether it has ended with this code by a fault of its own: SIGKILL, where the keeper sent none, is none."""
        return code != -signal.SIGKILL or self._condemned

    def death(self, code: int) -> Death:
        """How it has ended with this code."""
        if self.frozen_at:
            return Death.FROZEN
        if code != -signal.SIGKILL:
            return Death.CRASHED
        return Death.STARVED if memory_kills() > self.memory_kills_before else Death.KILLED

    def condemn(self) -> None:
        """Ends it for a fault of its own."""
        self._condemned = True
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Sends a signal. The process is not reaped before its end is noted, so the number is its own."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def flush(self) -> bool:
        """Sends what the socket takes, and returns whether something is left."""
        while True:
            if not self.outbox:
                self.outbox.extend(packet for packet in (next(self.giving, None),) if packet)
            if not self.outbox:
                return False
            data, fd = self.outbox[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
            try:
                self.channel.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError as error:
                return isinstance(error, BlockingIOError)  # otherwise the process has ended
            self.outbox.popleft()


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, of the machine or of any control group."""
    with contextlib.suppress(OSError, ValueError):
        file = os.open(_KILLS_FILE, os.O_RDONLY)
        try:
            return int(os.read(file, 65536).partition(b"\noom_kill ")[2].partition(b"\n")[0])
        finally:
            os.close(file)
    return 0


def received(channel: socket.socket) -> Iterator[tuple[Message | None, int]]:
    """The messages that wait, each with its descriptor, or -1; at the end None if the other side has closed its end.

    Raises `BadMessage` for something else.
    """
    while True:
        try:
            flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            data, rights, _, _ = channel.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(4), flags)
        except ConnectionResetError:
            continue  # the other side left messages unread when it ended: this is told before its own last messages
        except OSError:
            return
        fds = array.array("i", b"".join(found for _, _, found in rights))
        for fd in fds[1:]:
            os.close(fd)
        if not data:
            yield None, -1
            return
        yield decode(data), fds[0] if fds else -1
