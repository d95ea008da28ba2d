"""What a worker should look at: told by whatever changes it, waited for by the worker."""

import trio


class News:
    """One worker's. Telling never waits; what was told between two waits is not missed."""

    def __init__(self) -> None:
        self._work: dict[str, bool] = {}
        self._stop = False
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<News of {sorted(self._work)}>"

    def tell_work(self, model: str) -> None:
        """There is something new to claim. A worker that serves `model` but is not waiting just now sees it later."""
        if model in self._work:
            self._work[model] = True
            self._waiting.unpark_all()

    def tell_stop(self) -> None:
        """A beat would say something new: a claim that is not wanted any more, or that the lease is lost."""
        self._stop = True
        self._waiting.unpark_all()

    def tell_all(self) -> None:
        """Anything may have happened."""
        for model in self._work:
            self._work[model] = True
        self.tell_stop()

    def looked(self, model: str) -> None:
        """The worker has seen what is to claim."""
        self._work[model] = False

    def heard_stops(self) -> None:
        """The worker has beaten."""
        self._stop = False

    async def wait(self, model: str) -> None:
        """Returns once for all that was told since the last look; at once on the first call for `model`."""
        if self._work.setdefault(model, True) or self._stop:
            await trio.lowlevel.checkpoint()
        while not (self._work[model] or self._stop):
            await self._waiting.park()
        self._work[model] = self._stop = False
