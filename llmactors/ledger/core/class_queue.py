"""Order among priority classes. Each class is fair among its tenants. Pure."""

from collections.abc import Iterator

from llmactors.ledger.core.fair_queue import FairQueue, QueueEntry

PASSED_OVER_MAX = 16
"""How many entries of other classes may pass a waiting class in a row."""


class ClassQueue:
    """The class with the lowest number goes first, but no class starves.

    A class that was passed over `passed_over_max` times goes first; of several such classes, the one that was passed
    over most. With n classes, no class waits for more than `passed_over_max + n - 2` entries of others. So a less
    urgent class gets about one of `passed_over_max` entries under any load, and no clock is needed.
    """

    def __init__(self, passed_over_max: int = PASSED_OVER_MAX) -> None:
        self._passed_over_max = passed_over_max
        self._classes: dict[int, FairQueue] = {}
        self._passed_over: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __bool__(self) -> bool:
        return bool(self._classes)

    def __repr__(self) -> str:
        waiting = ", ".join(f"class {priority}: {len(queue)}" for priority, queue in sorted(self._classes.items()))
        return f"<ClassQueue: {waiting or 'empty'}>"

    def push(self, entry: QueueEntry) -> None:
        """Adds a new entry behind the others of its tenant and class."""
        self._class(entry.priority).push(entry)

    def put_back(self, entry: QueueEntry) -> None:
        """Adds an entry that was served before, ahead of all entries of its tenant and class."""
        self._class(entry.priority).put_back(entry)

    def undo_turn(self, entry: QueueEntry) -> None:
        """Takes back the turn in which `entry` was taken last, because the entry is passed over. The next `pop` gives
        the turn to another entry, of the same class if the class has one.
        """
        for priority in self._classes:
            if priority != entry.priority:
                self._passed_over[priority] -= 1
        if entry.priority in self._classes:
            self._passed_over[entry.priority] = entry.class_passed_over

    def put_back_unserved(self, entry: QueueEntry) -> None:
        """Adds an entry again whose turn was undone."""
        is_new = entry.priority not in self._classes
        self.put_back(entry)
        if is_new:
            self._passed_over[entry.priority] = entry.class_passed_over

    def remove(self, entry: QueueEntry) -> None:
        """Takes a waiting entry out of the queue."""
        self._classes[entry.priority].remove(entry)
        self._tidy(entry.priority)

    def pop(self) -> QueueEntry | None:
        """Takes the next entry out of the queue; None where nothing waits."""
        if not self._classes:
            return None
        chosen = self._next_class()
        passed_over = self._passed_over[chosen]
        for priority in self._classes:
            if priority != chosen:
                self._passed_over[priority] += 1
        self._passed_over[chosen] = 0
        entry = self._classes[chosen].pop()
        if entry is not None:
            entry.class_passed_over = passed_over
        self._tidy(chosen)
        return entry

    def heads(self) -> list[QueueEntry]:
        """The next entry of each class, the most urgent class first."""
        found = (self._classes[priority].head() for priority in sorted(self._classes))
        return [entry for entry in found if entry is not None]

    def pop_of(self, priority: int) -> None:
        """Takes the next entry of a class out of the queue, without a turn: no class counts as passed over."""
        self._classes[priority].pop()
        self._tidy(priority)

    def first_come(self) -> list[tuple[QueueEntry, int]]:
        """Of each class that waits, the entry that came first, and how many entries wait."""
        found = ((queue.first_come(), len(queue)) for queue in self._classes.values())
        return [(entry, count) for entry, count in found if entry is not None]

    def ahead_of(self, tenant: str, priority: int) -> int:
        """About how many entries would be served before a new one of `tenant` in class `priority`.

        These are all entries of more urgent classes, and a fair part of its own class. The turns of classes that were
        passed over too often are not counted.
        """
        more_urgent = sum(len(queue) for each, queue in self._classes.items() if each < priority)
        own = self._classes.get(priority)
        return more_urgent + (0 if own is None else own.ahead_of(tenant))

    def places(self) -> Iterator[tuple[str, int]]:
        """The key of each entry with its place, counted from 1. The place counts as `ahead_of` does."""
        more_urgent = 0
        for priority in sorted(self._classes):
            queue = self._classes[priority]
            for key, place in queue.places():
                yield key, more_urgent + place
            more_urgent += len(queue)

    def _next_class(self) -> int:
        longest, priority = max((times, -priority) for priority, times in self._passed_over.items())
        return -priority if longest >= self._passed_over_max else min(self._classes)

    def _class(self, priority: int) -> FairQueue:
        if priority not in self._classes:
            self._classes[priority] = FairQueue()
            self._passed_over[priority] = 0
        return self._classes[priority]

    def _tidy(self, priority: int) -> None:
        if not self._classes[priority]:
            del self._classes[priority], self._passed_over[priority]
