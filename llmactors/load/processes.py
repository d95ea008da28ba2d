"""The CPU time and the memory that processes have used, from /proc. Linux only."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from llmactors.errors import ConfigError


@attrs.frozen
class ProcessUsage:
    """What several processes have used so far, all together."""

    cpu_s: float
    """The CPU time of all threads, as the scheduler measures it: the times that `ps` shows advance in steps of 10 ms.
    A thread that has ended does not count."""
    waited_s: float
    """How long the threads were ready to run while another thread had the core."""
    resident_bytes: int

    @classmethod
    def of(cls, pids: Iterable[int]) -> "ProcessUsage":
        """Reads the usage of processes now. A process that has ended adds nothing."""
        cpu_ns = waited_ns = resident = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                home = Path("/proc") / str(pid)
                for thread in (home / "task").iterdir():
                    with contextlib.suppress(OSError):
                        ran, waited, _ = (thread / "schedstat").read_text(encoding="ascii").split()
                        cpu_ns += int(ran)
                        waited_ns += int(waited)
                pages = int((home / "statm").read_text(encoding="ascii").split()[1])
                resident += pages * os.sysconf("SC_PAGE_SIZE")
        return cls(cpu_ns / 1e9, waited_ns / 1e9, resident)

    @classmethod
    def total(cls, usages: Iterable["ProcessUsage"]) -> "ProcessUsage":
        """The sum over several groups of processes."""
        each = list(usages)
        return cls(
            sum(usage.cpu_s for usage in each),
            sum(usage.waited_s for usage in each),
            sum(usage.resident_bytes for usage in each),
        )


def check_processes(pids: Sequence[int]) -> None:
    """Raises `ConfigError` for a pid that no process has."""
    for pid in pids:
        if not Path(f"/proc/{pid}/schedstat").exists():
            raise ConfigError(f"`server-pid`: there is no process {pid} that this user may look at")


def costs(before: ProcessUsage, after: ProcessUsage, *, seconds: float, correct: int, tokens: int) -> dict[str, Any]:
    """What a run that took `seconds` has cost the server."""
    cpu_s = after.cpu_s - before.cpu_s
    return {
        "cpu_s": cpu_s,
        "busy": cpu_s / seconds,
        "waited": (after.waited_s - before.waited_s) / seconds,
        "cpu_ms_per_request": 1e3 * cpu_s / max(1, correct),
        "cpu_us_per_token": 1e6 * cpu_s / max(1, tokens),
        "resident_bytes": after.resident_bytes,
    }
