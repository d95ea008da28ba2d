"""The timer of static batches."""

import math
from collections.abc import Callable

import trio


class WindowTimer:
    """Calls `on_due` when a static batch is due. Run `run` as a task. `on_due` must not raise."""

    def __init__(self, on_due: Callable[[], None]) -> None:
        self._on_due = on_due
        self._due = math.inf
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<WindowTimer due={self._due}>"

    def set(self, due: float) -> None:
        """Sets when a static batch is to begin, on Trio's clock; infinity while none waits for its window."""
        if due != self._due:
            self._due = due
            self._changed.set()

    async def run(self) -> None:
        """Waits for the set time, again and again, for ever."""
        while True:
            with trio.move_on_at(self._due) as window:
                await self._changed.wait()
            self._changed = trio.Event()
            if window.cancelled_caught:
                self._due = math.inf
                self._on_due()
