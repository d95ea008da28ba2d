"""Where gateways die: between two steps that others can see, and where a task of theirs waits.

A step is a call of the kernel, a record, or a message to the keeper. Steps and waits have kinds. For each kind a number
is drawn: so often the kind is met until it is fatal. Small numbers are as likely as large ones, so rare kinds have
their deaths too, and frequent ones late ones.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable

import trio

from tests.simulation.cluster import HOST
from tests.simulation.network import Host

_NOBODY = Host("nobody")
_INNER = {"_write_now", "_record", "_throw_away", "_send_packet", "send_nowait", "journal_nowait"} | {
    *("add", "trim", "trim_to", "_store")
}
"""Functions that several others call. Each of those makes steps of its own kinds."""
_BESIDE = ("beat", "queue_places", "queue_hint", "request_service.py:run", "_accept", "_end_process_instead", ":_next")
"""What tasks do that write nothing to clients: seldom fatal."""
_COUNTS = (1, 2, 4, 8, 15, 30, 60, 120, 250)
_FOLDERS = ("/llmactors/http/", "/llmactors/gateway/")


class Fate(trio.abc.Instrument):
    """Kills gateways.

    Args:
        rate: The share of the kinds that are fatal at all.
    """

    def __init__(self, rng: random.Random, rate: float) -> None:
        self.kill: Callable[[Host], bool] = lambda _host: False
        """Kills the process whose host this is, if it may die now, and returns whether it died."""
        self.met: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.is_over = False
        """Whether nobody dies any more."""
        self._left: dict[str, int] = {}
        self._rng = rng
        self._rate = rate

    def __repr__(self) -> str:
        return f"<Fate {self.deaths.total()} deaths of {len(self.met)} kinds>"

    def step(self, kind: str) -> bool:
        """A step of the process whose task runs. Returns whether the process lives behind it."""
        host = HOST.get(_NOBODY)
        if not host.dead:
            self._meet(host, f"{kind} in {_caller()}")
        return not host.dead

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task waits for something."""
        host = task.context.get(HOST)
        if host is None or host.dead or not host.name.startswith("g"):
            return
        kind = ""
        for frame, _ in task.iter_await_frames():
            name = frame.f_code.co_filename
            if any(folder in name for folder in _FOLDERS):
                kind = f"await {name.rpartition('/')[2]}:{frame.f_code.co_qualname.rpartition('.')[2]}"
        if kind:
            self._meet(host, kind)

    def _meet(self, host: Host, kind: str) -> None:
        self.met[kind] += 1
        if self._left.setdefault(kind, self._drawn(kind)) > 0:
            self._left[kind] -= 1
        elif not self.is_over and self._left[kind] == 0 and self.kill(host):
            self.deaths[kind] += 1
            self._left[kind] = self._drawn(kind)

    def _drawn(self, kind: str) -> int:
        """How often a kind is met until it is fatal; less than 0 for never."""
        rate = self._rate / 8 if any(each in kind for each in _BESIDE) else self._rate
        return self._rng.choice(_COUNTS) if self._rng.random() < rate else -1


def _caller() -> str:
    """The function of the package that makes the step."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        code = frame.f_code
        if code.co_name not in _INNER and any(folder in code.co_filename for folder in _FOLDERS):
            return code.co_name
        frame = frame.f_back
    return "nothing"
