"""Order among priority classes, each of which is fair among its tenants. Pure, as `fair_queue`."""

from llmactors.ledger.core.fair_queue import FairQueue, QueueEntry

PATIENCE = 16
"""How many tickets of other classes may pass a waiting class in a row."""


class ClassQueue:
    """The lowest priority number first, but no class starves.

    A class that was passed over `patience` times goes first, and of several such the one that was passed over most:
    with n classes none waits for more than `patience + n - 2` tickets of others. So a less urgent class is sure of
    about one ticket in `patience` under any load, and no clock is needed.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._classes: dict[int, FairQueue] = {}
        self._passed_over: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __bool__(self) -> bool:
        return bool(self._classes)

    def __repr__(self) -> str:
        waiting = ", ".join(f"class {priority}: {len(queue)}" for priority, queue in sorted(self._classes.items()))
        return f"<ClassQueue: {waiting or 'empty'}>"

    def push(self, ticket: QueueEntry) -> None:
        """Adds a new ticket behind its tenant's others of its class."""
        self._class(ticket.priority).push(ticket)

    def put_back(self, ticket: QueueEntry) -> None:
        """Adds a ticket that was served before, ahead of all that its tenant has waiting in its class."""
        self._class(ticket.priority).put_back(ticket)

    def remove(self, ticket: QueueEntry) -> None:
        """Takes out a ticket that waits."""
        self._classes[ticket.priority].remove(ticket)
        self._tidy(ticket.priority)

    def pop(self) -> QueueEntry | None:
        """Takes out the ticket that is next, or None where nothing waits."""
        if not self._classes:
            return None
        chosen = self._next_class()
        for priority in self._classes:
            if priority != chosen:
                self._passed_over[priority] += 1
        self._passed_over[chosen] = 0
        ticket = self._classes[chosen].pop()
        self._tidy(chosen)
        return ticket

    def ahead_of(self, tenant: str, priority: int) -> int:
        """About how many tickets would be served before a new one of `tenant` in class `priority`.

        All of more urgent classes, and of its own class what is fair. Turns given to a starving class are left out.
        """
        more_urgent = sum(len(queue) for each, queue in self._classes.items() if each < priority)
        own = self._classes.get(priority)
        return more_urgent + (0 if own is None else own.ahead_of(tenant))

    def _next_class(self) -> int:
        longest, priority = max((times, -priority) for priority, times in self._passed_over.items())
        return -priority if longest >= self._patience else min(self._classes)

    def _class(self, priority: int) -> FairQueue:
        if priority not in self._classes:
            self._classes[priority] = FairQueue()
            self._passed_over[priority] = 0
        return self._classes[priority]

    def _tidy(self, priority: int) -> None:
        if not self._classes[priority]:
            del self._classes[priority], self._passed_over[priority]
