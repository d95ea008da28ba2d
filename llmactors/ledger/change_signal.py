"""Wakes a waiting worker when there may be work for it, or a stop."""

import math

import trio

from llmactors.ledger.values import News


class ChangeSignal:
    """The signal of one worker. To notify never waits, and a change between two waits is not missed."""

    def __init__(self) -> None:
        self._news: dict[str, News] = {}
        """By model, what there is beside stops."""
        self._stop = False
        self._look_after_s: float | None = None
        """After how many seconds a wait returns without a change; None: not at all."""
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<ChangeSignal for {sorted(self._news)}>"

    def notify_work(self, model: str) -> None:
        """Notes that there is something new to claim. A worker of `model` that does not wait now returns from its next
        wait.
        """
        if model in self._news:
            self._news[model] |= News.WORK
            self._waiting.unpark_all()

    def notify_handed(self, model: str) -> None:
        """Notes that requests of `model` were handed to the worker."""
        self._news[model] = self._news.get(model, News.WORK) | News.HANDED
        self._waiting.unpark_all()

    def notify_stop(self) -> None:
        """Notes that the answer to a beat has changed: a claim is not wanted any more, or the lease is lost."""
        self._stop = True
        self._waiting.unpark_all()

    def notify_all(self) -> None:
        """Notes that anything may have changed."""
        for model in self._news:
            self._news[model] |= News.WORK
        self.notify_stop()

    def look_again(self, after_s: float) -> None:
        """Lets the wait that is under way, or the next one, return after `after_s` seconds without a change."""
        self._look_after_s = after_s
        self._waiting.unpark_all()

    def clear_work(self, model: str) -> None:
        """Notes that the worker has claimed what there was for `model`."""
        self._news[model] = News(0)

    def clear_stop(self) -> None:
        """Notes that the worker has got the answer to a beat."""
        self._stop = False

    async def wait(self, model: str) -> News:
        """Returns once for all changes since the last wait, at once on the first call for `model`, and once the time of
        `look_again` has passed. Returns what has changed, or may have changed.
        """
        if self._news.setdefault(model, News.WORK) or self._stop:
            await trio.lowlevel.checkpoint()
        looks_at = math.inf
        while not (self._news[model] or self._stop) and trio.current_time() < looks_at:
            if self._look_after_s is not None:
                looks_at, self._look_after_s = trio.current_time() + self._look_after_s, None
            with trio.move_on_at(looks_at):
                await self._waiting.park()
        news = self._news[model] | (News.STOP if self._stop else News(0))
        self._news[model], self._stop = News(0), False
        return news
