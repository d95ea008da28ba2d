"""Wakes a waiting worker when there may be work for it, or a stop."""

import math

import trio


class ChangeSignal:
    """The signal of one worker. To notify never waits, and a change between two waits is not missed."""

    def __init__(self) -> None:
        self._work: dict[str, bool] = {}
        self._stop = False
        self._look_after_s: float | None = None
        """After how many seconds a wait returns without a change; None: not at all."""
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<ChangeSignal for {sorted(self._work)}>"

    def notify_work(self, model: str) -> None:
        """Notes that there is something new to claim. A worker of `model` that does not wait now returns from its next
        wait.
        """
        if model in self._work:
            self._work[model] = True
            self._waiting.unpark_all()

    def notify_stop(self) -> None:
        """Notes that the answer to a beat has changed: a claim is not wanted any more, or the lease is lost."""
        self._stop = True
        self._waiting.unpark_all()

    def notify_all(self) -> None:
        """Notes that anything may have changed."""
        for model in self._work:
            self._work[model] = True
        self.notify_stop()

    def look_again(self, after_s: float) -> None:
        """Lets the wait that is under way, or the next one, return after `after_s` seconds without a change."""
        self._look_after_s = after_s
        self._waiting.unpark_all()

    def clear_work(self, model: str) -> None:
        """Notes that the worker has claimed what there was for `model`."""
        self._work[model] = False

    def clear_stop(self) -> None:
        """Notes that the worker has got the answer to a beat."""
        self._stop = False

    async def wait(self, model: str) -> bool:
        """Returns once for all changes since the last wait, at once on the first call for `model`, and once the time of
        `look_again` has passed. Returns whether there was a change, or may have been one.
        """
        if self._work.setdefault(model, True) or self._stop:
            await trio.lowlevel.checkpoint()
        looks_at = math.inf
        while not (self._work[model] or self._stop) and trio.current_time() < looks_at:
            if self._look_after_s is not None:
                looks_at, self._look_after_s = trio.current_time() + self._look_after_s, None
            with trio.move_on_at(looks_at):
                await self._waiting.park()
        has_changed = self._work[model] or self._stop
        self._work[model] = self._stop = False
        return has_changed
