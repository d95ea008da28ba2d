"""Facts about the machine and the installed packages, on which all figures depend."""

import contextlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("llmactors", "trio", "hypercorn", "h11", "msgspec", "hiredis")


def facts() -> dict[str, Any]:
    """Facts about this machine now, for a report."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_loop_ns": round(python_loop_ns(), 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "began": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def own_versions() -> dict[str, str]:
    """The versions of llmactors and of the packages that handle every token."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def python_loop_ns() -> float:
    """CPU time of one turn of an empty loop in nanoseconds: a measure of how fast this machine is at the moment."""
    turns = 1_000_000
    begun = time.process_time()
    for _ in range(turns):
        pass
    return (time.process_time() - begun) * 1e9 / turns


class MachineUse:
    """The use of all cores of the machine since the object was made, by this benchmark and by others."""

    def __init__(self) -> None:
        self._begun = psutil.cpu_times()

    def report(self) -> dict[str, float]:
        """Shares of the time of all cores, in percent."""
        now = psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(self._begun, name) for name in ("user", "system", "idle", "steal")}
        total = sum(spent.values()) or 1.0
        return {f"{name}_percent": round(100 * value / total, 1) for name, value in spent.items()}
