"""A request to stop that calls back, so that no task has to wait for the request."""

from collections.abc import Callable


class StopSignal:
    """Calls every callback when the stop is requested. A callback that is added later is called at once."""

    def __init__(self, *, for_good: bool = False) -> None:
        self._set = False
        self.for_good = for_good
        """Whether the receiver of the request is not started again after its end."""
        self._callbacks: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<StopSignal {'set' if self._set else 'not set'}>"

    def is_set(self) -> bool:
        """Whether the stop has been requested."""
        return self._set

    def set(self, *, for_good: bool = False) -> None:
        """Requests the stop. A second call calls nothing back."""
        self.for_good |= for_good
        if not self._set:
            self._set = True
            for callback in self._callbacks:
                callback()

    def on_set(self, callback: Callable[[], None]) -> None:
        """Adds a callback for the moment of the request. The callback must not raise or block."""
        self._callbacks.append(callback)
        if self._set:
            callback()
