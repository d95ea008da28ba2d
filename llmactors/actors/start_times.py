"""When the children of a supervisor are started again, the earliest first. Pure."""

import heapq
import itertools
import math

_Entry = tuple[float, int, str]
"""The time, the order of the calls of `put`, and the child's name."""


class StartTimes:
    """The times of the next starts. Children with the same time come in the order in which they were put."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        # The same entries as a heap. An entry that `_entries` does not have any more is skipped.
        self._heap: list[_Entry] = []
        self._order = itertools.count()

    def __repr__(self) -> str:
        return f"<StartTimes {[(name, due) for due, _, name in sorted(self._entries.values())]}>"

    def put(self, name: str, due: float) -> None:
        """Sets the time of a child, in place of the time that it had."""
        entry = self._entries[name] = (due, next(self._order), name)
        heapq.heappush(self._heap, entry)

    def discard(self, name: str) -> None:
        """Takes out a child, if it has a time."""
        self._entries.pop(name, None)

    def clear(self) -> None:
        """Takes out all children."""
        self._entries.clear()
        self._heap.clear()

    def first(self) -> float:
        """The earliest time; infinity if no child has one."""
        while self._heap and self._entries.get(self._heap[0][2]) is not self._heap[0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop(self, now: float) -> str | None:
        """Takes out the first child whose time has come; None if there is none."""
        if self.first() > now:
            return None
        name = heapq.heappop(self._heap)[2]
        del self._entries[name]
        return name
