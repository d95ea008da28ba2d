"""Tells waiting clients their place in the queue, and how long the wait will probably be.

A request is asked about only while its client gets no token: first `FIRST_LOOK_S` to twice that time after it came, and
then at most once in `LOOK_EVERY_S`. One call of the ledger answers for all requests that are due. So a request that is
served at once costs no call, and a gateway makes at most one call in `FIRST_LOOK_S`.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence

import attrs
import trio

from llmactors.backends.directory import ModelDirectory
from llmactors.errors import LlmactorsError
from llmactors.ledger import QueuePlace

FIRST_LOOK_S = 0.25
LOOK_EVERY_S = 1.0
LOOK_AT_MAX = 256
"""The number of requests that one call of the ledger asks about. The others are asked about in the next call."""
_CHANGE_MIN_S = 1.0
_CHANGE_MIN_SHARE = 0.1

FindPlaces = Callable[[Sequence[str]], Awaitable[list[QueuePlace | None]]]
"""`Ledger.places`."""


@attrs.frozen
class QueueStanding:
    """What a waiting client learns."""

    place: int
    """About how many requests are served up to this one: 1 for the next request."""
    estimate_s: float | None
    """How long the wait will probably be, in seconds, the load of the model included; None while nobody can say."""

    def differs(self, other: "QueueStanding | None") -> bool:
        """Whether a client should hear of this standing after `other`."""
        if other is None or self.place != other.place:
            return True
        if self.estimate_s is None or other.estimate_s is None:
            return self.estimate_s != other.estimate_s
        change_s = abs(self.estimate_s - other.estimate_s)
        return change_s >= max(_CHANGE_MIN_S, _CHANGE_MIN_SHARE * other.estimate_s)


@attrs.define(eq=False)
class QueueWatch:
    """One request whose client may have to wait. `QueuePlaces` sets the standings."""

    request_id: str
    on_change: Callable[[QueueStanding], None] | None = None
    """Called with each new standing. With None, the request is asked about only until it does not wait any more."""
    quiet_since: float = -math.inf
    """When the client last got a token, on Trio's clock. The reader of the log sets this."""
    next_look: float = math.inf
    """The time before which the ledger is not asked, on Trio's clock."""
    first: QueueStanding | None = None
    """The first standing; None for a request that has not waited for `FIRST_LOOK_S`."""
    now: QueueStanding | None = None
    """The latest standing; None while the request does not wait."""
    told: QueueStanding | None = None
    """The standing of the last call of `on_change`."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The response headers: the latest standing while the request waits, and its first standing afterwards."""
        standing = self.now or self.first
        if standing is None:
            return []
        headers = [("x-queue-place", str(standing.place))]
        if standing.estimate_s is not None:
            headers.append(("x-queue-estimate-s", f"{standing.estimate_s:g}"))
        return headers

    def is_due(self, now: float) -> bool:
        """Whether the ledger should be asked about the request."""
        return now >= self.next_look and now >= self.quiet_since + LOOK_EVERY_S


class QueuePlaces:
    """Asks the ledger about the requests of waiting clients. A task must run `run`."""

    def __init__(self, find: FindPlaces, directory: ModelDirectory) -> None:
        self._find = find
        self._directory = directory
        self._watches: dict[QueueWatch, None] = {}
        self._has_watches = trio.Event()

    def __repr__(self) -> str:
        return f"<QueuePlaces of {len(self._watches)} requests>"

    def watch(self, request_id: str, on_change: Callable[[QueueStanding], None] | None = None) -> QueueWatch:
        """Begins to ask about a request. `on_change` must not wait and must not raise."""
        watch = QueueWatch(request_id, on_change, next_look=trio.current_time() + FIRST_LOOK_S)
        self._watches[watch] = None
        self._has_watches.set()
        return watch

    def drop(self, watch: QueueWatch) -> None:
        """Asks about a request no more."""
        self._watches.pop(watch, None)

    @contextlib.contextmanager
    def watched(self, request_id: str) -> Iterator[QueueWatch]:
        """Around a wait for an answer whose response headers tell how the request stood in the queue."""
        watch = self.watch(request_id)
        try:
            yield watch
        finally:
            self.drop(watch)

    async def standing(self, request_id: str) -> QueueStanding | None:
        """The standing of a request; None where the request does not wait. Raises `Unavailable`."""
        [place] = await self._find([request_id])
        return None if place is None else self._standing(place)

    async def run(self) -> None:
        """Asks the ledger about requests that are due, until cancelled."""
        while True:
            await self._has_watches.wait()
            while self._watches:
                await trio.sleep(FIRST_LOOK_S)
                await self._look()
            self._has_watches = trio.Event()

    async def _look(self) -> None:
        now = trio.current_time()
        due = [watch for watch in self._watches if watch.is_due(now)][:LOOK_AT_MAX]
        if not due:
            return
        try:
            places = await self._find([watch.request_id for watch in due])
        except LlmactorsError:
            return  # the next look may find the ledger again
        for watch, place in zip(due, places, strict=True):
            if watch in self._watches:
                self._note(watch, place, now)

    def _note(self, watch: QueueWatch, place: QueuePlace | None, now: float) -> None:
        watch.next_look = now + LOOK_EVERY_S
        if place is None:
            watch.now = watch.told = None
            if watch.on_change is None:
                self.drop(watch)
            return
        standing = watch.now = self._standing(place)
        watch.first = watch.first or standing
        # A token that came while the ledger was asked is news that the standing is too late for.
        if watch.on_change is not None and watch.quiet_since < now and standing.differs(watch.told):
            watch.told = standing
            watch.on_change(standing)

    def _standing(self, place: QueuePlace) -> QueueStanding:
        load_s = self._directory.load_s(place.model)
        wait_s = place.wait_s
        if load_s is not None:
            # All requests of a model that is not in memory wait for the same load.
            wait_s = load_s + (wait_s or 0.0) * (place.place - 1) / place.place
        return QueueStanding(place.place, None if wait_s is None else round(wait_s, 1 if wait_s < 10 else None))
