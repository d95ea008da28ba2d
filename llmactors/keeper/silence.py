"""How long a gateway has been silent, of the time in which it could have spoken."""

import contextlib
import os
import time

BEAT_S = 0.5
"""A gateway whose loop runs sends `Beat` this often."""
LOOK_S = 1.0
"""The keeper looks this often at each gateway."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Silence:
    """Counts the silence of one process.

    Time in which the process could do nothing does not count: the keeper was stopped too, a debugger held the process,
    the process waited for a core, or for the disk in a state in which no signal can end it.
    """

    def __init__(self, now: float) -> None:
        self.seconds = self.heard_at = 0.0
        self._heard = True
        self._looked_at = now
        self._cpu_s = 0.0

    def __repr__(self) -> str:
        return f"<Silence of {self.seconds:.1f} s>"

    def has_lasted(self, seconds: float, pid: int, now: float) -> bool:
        """Whether the process, with this pid, has been silent for so long. Looks at it when that is due."""
        if now < self.look_at:
            return False
        self.look(pid, now)
        return self.seconds >= seconds

    @property
    def look_at(self) -> float:
        """When to call `look` next."""
        return self._looked_at + LOOK_S

    def heard(self) -> None:
        """The process has sent `Beat`."""
        self._heard, self.heard_at = True, time.monotonic()

    def look(self, pid: int, now: float) -> None:
        """Counts the time since the last look. A process that was heard since then is not looked at."""
        passed_s, self._looked_at = min(now - self._looked_at, 2 * LOOK_S), now
        if self._heard:
            self._heard, self.seconds, self._cpu_s = False, 0.0, -1.0
            return
        state, cpu_s = state_of(pid)
        used_s = 0.0 if self._cpu_s < 0 else cpu_s - self._cpu_s
        self._cpu_s = cpu_s
        self.seconds += counted_s(state, passed_s, used_s)


def counted_s(state: str, passed_s: float, used_s: float) -> float:
    """How much of a silence counts. `state` is that of `proc(5)`, and `used_s` the CPU time of the process. Pure."""
    if state in {"S", "T"}:
        return passed_s  # it waits for something other than a core, or somebody has stopped it
    return 0.0 if state == "t" else min(used_s, passed_s)


def state_of(pid: int) -> tuple[str, float]:
    """The state of a process, as `proc(5)` has it, and its CPU time in seconds; `t` where that cannot be read."""
    with contextlib.suppress(OSError):
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            fields = os.read(file, 4096).rpartition(b")")[2].split()
        finally:
            os.close(file)
        return fields[0].decode(), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return "t", 0.0
