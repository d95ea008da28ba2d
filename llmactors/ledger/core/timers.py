"""Points in time by key. Pure: the caller passes the current time."""

import heapq
import math
from collections.abc import Iterator


class Timers:
    """At most one point in time per key. Setting, clearing, and finding what is due all cost O(log n).

    A cleared entry stays in the heap until its time comes, or until half of the heap is cleared: memory follows the
    number of keys, however far away the cleared times were.
    """

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __repr__(self) -> str:
        return f"<Timers: {len(self._due)} set>"

    def set(self, key: str, at: float) -> None:
        """Sets or changes the time of `key`."""
        self._due[key] = at
        heapq.heappush(self._heap, (at, key))
        self._compact()

    def clear(self, key: str) -> None:
        """Forgets `key`, if it is known."""
        self._due.pop(key, None)
        self._compact()

    def pop_due(self, now: float) -> Iterator[str]:
        """Removes and yields, in order of time, each key whose time is `now` or earlier."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                yield key

    def first(self) -> float:
        """The earliest time that is set; infinity where none is."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._due) + 16 or not self._due:
            self._heap = [(at, key) for key, at in self._due.items()]
            heapq.heapify(self._heap)
