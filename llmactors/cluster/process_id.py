"""Identifies the process of a node. Needs Linux; elsewhere no process is known to be dead, and records must expire."""

import os
import socket
from pathlib import Path

import attrs


@attrs.frozen
class ProcessId:
    """Identifies one process. Another process that gets the same pid later has another `ProcessId`."""

    host: str
    pid: int
    space: str = ""
    """The kernel's boot and the namespace of pids, because two containers may have the same host name and pid."""
    begun: str = ""
    """The start time of the process, in ticks of the kernel."""

    @staticmethod
    def own() -> "ProcessId":
        """The id of this process."""
        return ProcessId(socket.gethostname(), os.getpid(), _space(), _begun(os.getpid()))

    def is_dead(self) -> bool:
        """Whether the process has certainly ended. False on another machine, which cannot know."""
        here = self.host == socket.gethostname() and self.space == _space()
        return here and bool(self.space) and _begun(self.pid) != self.begun


def _space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _begun(pid: int) -> str:
    """The start time of a process; empty if the process does not exist, or has ended and is not reaped."""
    try:
        # The program's name stands in parentheses, and may contain any character.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
