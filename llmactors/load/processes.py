"""What processes have computed, from /proc. Linux only."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from llmactors.errors import ConfigError


@attrs.frozen
class ProcessTimes:
    """How processes have spent their lives so far, in seconds."""

    cpu: float
    """User and system time of all their threads; the kernel counts it in steps of 10 ms."""
    waited: float
    """How long their main threads were ready to run, and something else had the core."""

    @classmethod
    def of(cls, pids: Sequence[int]) -> "ProcessTimes":
        """Of all of these together. Raises `ConfigError` for a pid that is none."""
        cpu = waited = 0.0
        for pid in pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                schedstat = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()
            except OSError as error:
                raise ConfigError(f"`server-pid`: there is no process {pid} to be seen") from error
            cpu += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
            waited += int(schedstat[1]) / 1e9
        return cls(cpu, waited)


def resident_bytes(pids: Sequence[int]) -> int:
    """How much memory processes have."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def server_report(
    pids: Sequence[int], before: ProcessTimes, after: ProcessTimes, *, seconds: float, correct: int, tokens: int
) -> dict[str, Any]:
    """What a run of so many seconds has cost these processes."""
    cpu_s = after.cpu - before.cpu
    return {
        "cpu_s": cpu_s,
        "busy": cpu_s / seconds,
        "waited": (after.waited - before.waited) / seconds,
        "cpu_ms_per_request": 1e3 * cpu_s / max(1, correct),
        "cpu_us_per_token": 1e6 * cpu_s / max(1, tokens),
        "resident_bytes": resident_bytes(pids),
    }
