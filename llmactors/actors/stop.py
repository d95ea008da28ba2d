"""A request to stop that wakes whoever must notice it, without a task that waits for it."""

from collections.abc import Callable


class StopSignal:
    """Set once; calls every callback at that moment, and those added later at once."""

    def __init__(self) -> None:
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<StopSignal {'set' if self._set else 'not set'}>"

    def is_set(self) -> bool:
        """Whether the stop was requested."""
        return self._set

    def set(self) -> None:
        """Requests the stop. Again is harmless."""
        if not self._set:
            self._set = True
            for callback in self._callbacks:
                callback()

    def on_set(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, which must not raise or block, when the stop is requested."""
        self._callbacks.append(callback)
        if self._set:
            callback()
