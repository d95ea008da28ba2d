"""Which process a node is. Linux; elsewhere nobody is ever known to be dead, and its record has to expire."""

import os
import socket
from pathlib import Path

import attrs


@attrs.frozen
class ProcessId:
    """A process, so exactly that another one with its pid is not taken for it."""

    host: str
    pid: int
    space: str = ""
    """The kernel's boot and the space of pids: two containers may have one host name and one pid."""
    begun: str = ""
    """When the process began, in the kernel's ticks."""

    @staticmethod
    def own() -> "ProcessId":
        """This process."""
        return ProcessId(socket.gethostname(), os.getpid(), _space(), _begun(os.getpid()))

    def is_dead(self) -> bool:
        """Whether it is certain that the process has ended. Only a process of the same machine can know."""
        here = self.host == socket.gethostname() and self.space == _space()
        return here and bool(self.space) and _begun(self.pid) != self.begun


def _space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _begun(pid: int) -> str:
    """Empty for a process that does not exist, or that has ended and was not yet reaped."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
