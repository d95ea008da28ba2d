"""Fair order among tenants. Pure: no clock, no Trio; only the order of calls matters.

This is start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996). Each tenant is a flow.
The head of a flow has a start tag, which is the flow's finish tag or the virtual time, whichever is later; the lowest
start tag is served; the finish tag then is start + cost, and the virtual time is the start tag of the entry in service.
Only heads have tags, so an entry that is removed while it waits costs its tenant nothing.
"""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate, count

import attrs

_arrivals = count(1)  # of all queues: an entry may return to a queue that is newer than the entry


@attrs.define(eq=False)
class QueueEntry:
    """A place in the queue. An entry keeps its tags while it is served, so that it can be put back."""

    key: str
    tenant: str
    cost: float
    priority: int = 0
    serial: int = 0
    """The order of arrival."""
    start: float | None = None
    """The start tag under which the entry was served first."""
    waiting: bool = False
    class_passed_over: int = 0
    """How often the class had been passed over when it got the turn in which the entry was taken."""


class _Flow:
    """One tenant's waiting entries."""

    __slots__ = ("fresh", "next_start", "returned")

    def __init__(self, next_start: float) -> None:
        self.fresh: OrderedDict[str, QueueEntry] = OrderedDict()
        # Returned entries go before all fresh ones, in order of arrival. There are few of them: at most the entries
        # that were running.
        self.returned: list[QueueEntry] = []
        self.next_start = next_start

    def __len__(self) -> int:
        return len(self.returned) + len(self.fresh)

    def head(self) -> QueueEntry:
        return self.returned[0] if self.returned else next(iter(self.fresh.values()))

    def entries(self) -> Iterator[QueueEntry]:
        """The entries in the order in which they are served."""
        yield from self.returned
        yield from self.fresh.values()

    def key(self) -> tuple[float, int]:
        """The sort key of this flow among the others."""
        head = self.head()
        return (self.next_start if head.start is None else head.start, head.serial)

    def discard(self, entry: QueueEntry) -> None:
        if self.fresh.pop(entry.key, None) is None:
            self.returned.remove(entry)


class FairQueue:
    """Waiting entries in the order in which they should be served.

    Promises: the queue is work-conserving (`pop` returns an entry while anything waits); each tenant is served first
    come, first served; while two tenants both wait, the costs served to them differ by at most the cost of the most
    expensive request of each; an entry that is put back keeps its place, and its tenant does not pay twice. Once
    nothing waits, the past is forgotten.
    """

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}
        # Finish tags of tenants with an empty flow, who would get ahead if their tags were forgotten.
        self._finish: dict[str, float] = {}
        # (start tag, serial, tenant) of each flow's head; `pop` skips heads that are no longer the first of their flow.
        self._heads: list[tuple[float, int, str]] = []
        self._virtual = 0.0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __repr__(self) -> str:
        return f"<FairQueue: {self._waiting} of {len(self._flows)} tenants, virtual time {self._virtual:g}>"

    def push(self, entry: QueueEntry) -> None:
        """Adds a new entry behind the others of its tenant."""
        entry.serial = next(_arrivals)
        self._flow(entry.tenant).fresh[entry.key] = entry
        self._entered(entry)

    def put_back(self, entry: QueueEntry) -> None:
        """Adds an entry that was served before, under its old tag, ahead of all entries of its tenant."""
        if entry.start is not None:
            # The virtual time may have restarted since; an old tag must not be later than the present.
            entry.start = min(entry.start, self._virtual)
        insort(self._flow(entry.tenant).returned, entry, key=lambda other: other.serial)
        self._entered(entry)

    def head(self) -> QueueEntry | None:
        """The entry that `pop` would return."""
        while self._heads:
            start, serial, tenant = self._heads[0]
            flow = self._flows.get(tenant)
            if flow is not None and flow.key() == (start, serial):
                return flow.head()
            heapq.heappop(self._heads)
        return None

    def remove(self, entry: QueueEntry) -> None:
        """Takes a waiting entry out of the queue."""
        self._flows[entry.tenant].discard(entry)
        self._left(entry)

    def pop(self) -> QueueEntry | None:
        """Takes the next entry out of the queue; None where nothing waits."""
        while self._heads:
            start, serial, tenant = heapq.heappop(self._heads)
            flow = self._flows.get(tenant)
            if flow is None or flow.key() != (start, serial):
                continue
            entry = flow.head()
            flow.discard(entry)
            entry.start = start
            self._virtual = max(self._virtual, start)
            flow.next_start = max(flow.next_start, start + entry.cost)
            self._left(entry)
            return entry
        return None

    def first_come(self) -> QueueEntry | None:
        """The waiting entry that came first; None where nothing waits."""
        return min((flow.head() for flow in self._flows.values()), key=lambda entry: entry.serial, default=None)

    def ahead_of(self, tenant: str) -> int:
        """About how many entries would be served before a new one of `tenant`, if all entries cost the same.

        These are the tenant's own waiting entries, and one entry of each other tenant per entry of this tenant, the new
        one included.
        """
        own = len(self._flows[tenant]) if tenant in self._flows else 0
        return own + sum(min(len(flow), own + 1) for other, flow in self._flows.items() if other != tenant)

    def places(self) -> Iterator[tuple[str, int]]:
        """The key of each entry with its place, counted from 1, if all entries cost the same.

        Before the entry of a tenant with the rank `n` come the entries of the tenant with a lower rank, and up to `n`
        entries of each other tenant.
        """
        lengths = sorted(map(len, self._flows.values()))
        sums = [0, *accumulate(lengths)]
        for flow in self._flows.values():
            for rank, entry in enumerate(flow.entries(), 1):
                shorter = bisect_left(lengths, rank)
                yield entry.key, sums[shorter] + rank * (len(lengths) - shorter)

    def _flow(self, tenant: str) -> _Flow:
        if (flow := self._flows.get(tenant)) is None:
            start = max(self._virtual, self._finish.pop(tenant, 0.0))
            flow = self._flows[tenant] = _Flow(start)
        return flow

    def _entered(self, entry: QueueEntry) -> None:
        entry.waiting = True
        self._waiting += 1
        flow = self._flows[entry.tenant]
        if flow.head() is entry:
            self._push_head(entry.tenant, flow)

    def _left(self, entry: QueueEntry) -> None:
        entry.waiting = False
        self._waiting -= 1
        flow = self._flows[entry.tenant]
        if not self._waiting:
            self._rest()
        elif flow:
            self._push_head(entry.tenant, flow)
        else:
            del self._flows[entry.tenant]
            self._finish[entry.tenant] = flow.next_start
            self._forget_past()

    def _push_head(self, tenant: str, flow: _Flow) -> None:
        heapq.heappush(self._heads, (*flow.key(), tenant))
        if len(self._heads) > 2 * len(self._flows) + 16:
            self._heads = [(*flow.key(), tenant) for tenant, flow in self._flows.items()]
            heapq.heapify(self._heads)

    def _rest(self) -> None:
        """Nothing waits: the next busy period begins without tags and without memory of tenants."""
        self._flows.clear()
        self._finish.clear()
        self._heads.clear()
        self._virtual = 0.0

    def _forget_past(self) -> None:
        """Drops finish tags that the virtual time has passed, when there are many more tags than flows."""
        if len(self._finish) > 2 * len(self._flows) + 64:
            self._finish = {tenant: tag for tenant, tag in self._finish.items() if tag > self._virtual}
