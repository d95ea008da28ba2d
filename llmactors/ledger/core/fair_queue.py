"""Fair order among tenants. Pure: no clock, no Trio; only the order of calls matters.

This is start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996). Each tenant is a flow.
The head of a flow has a start tag, which is the flow's finish tag or the virtual time, whichever is later; the lowest
start tag is served; the finish tag then is start + cost, and the virtual time is the start tag of what is in service.
Tags are given to heads only, so what is removed while it waits costs its tenant nothing.
"""

import heapq
from bisect import insort
from collections import OrderedDict
from itertools import count

import attrs

_arrivals = count(1)  # of all queues together: a ticket may come back to a queue that was made after it left


@attrs.define(eq=False)
class QueueEntry:
    """A place in the queue. It outlives being served, so that it can be put back."""

    key: str
    tenant: str
    cost: float
    priority: int = 0
    serial: int = 0
    """The order of arrival."""
    start: float | None = None
    """The start tag under which it was served first."""
    waiting: bool = False


class _Flow:
    """One tenant's waiting tickets."""

    __slots__ = ("fresh", "next_start", "returned")

    def __init__(self, next_start: float) -> None:
        self.fresh: OrderedDict[str, QueueEntry] = OrderedDict()
        # Put back ones are few (what was running at most) and go before all fresh ones, in order of arrival.
        self.returned: list[QueueEntry] = []
        self.next_start = next_start

    def __len__(self) -> int:
        return len(self.returned) + len(self.fresh)

    def head(self) -> QueueEntry:
        return self.returned[0] if self.returned else next(iter(self.fresh.values()))

    def key(self) -> tuple[float, int]:
        """What orders this flow among the others."""
        head = self.head()
        return (self.next_start if head.start is None else head.start, head.serial)

    def discard(self, ticket: QueueEntry) -> None:
        if self.fresh.pop(ticket.key, None) is None:
            self.returned.remove(ticket)


class FairQueue:
    """Waiting tickets in the order in which they should be served.

    Promises: work-conserving (`pop` gives something while anything waits); each tenant first come, first served; while
    two tenants both wait, the costs served to them since differ by no more than their two dearest requests; a ticket
    put back keeps its place, and its tenant does not pay twice. The past counts only as long as something waits.
    """

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}
        # Finish tags of tenants that have nothing waiting but would get ahead if theirs were forgotten.
        self._finish: dict[str, float] = {}
        # (start tag, serial, tenant) of each flow's head; entries that its flow has moved on from are passed over.
        self._heads: list[tuple[float, int, str]] = []
        self._virtual = 0.0
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __repr__(self) -> str:
        return f"<FairQueue: {self._waiting} of {len(self._flows)} tenants, virtual time {self._virtual:g}>"

    def push(self, ticket: QueueEntry) -> None:
        """Adds a new ticket behind its tenant's others."""
        ticket.serial = next(_arrivals)
        self._flow(ticket.tenant).fresh[ticket.key] = ticket
        self._entered(ticket)

    def put_back(self, ticket: QueueEntry) -> None:
        """Adds a ticket that was served before, under its old tag: ahead of all that its tenant has waiting."""
        if ticket.start is not None:
            # The virtual time may have begun anew since; an old tag is never later than the present.
            ticket.start = min(ticket.start, self._virtual)
        insort(self._flow(ticket.tenant).returned, ticket, key=lambda other: other.serial)
        self._entered(ticket)

    def remove(self, ticket: QueueEntry) -> None:
        """Takes out a ticket that waits."""
        self._flows[ticket.tenant].discard(ticket)
        self._left(ticket)

    def pop(self) -> QueueEntry | None:
        """Takes out the ticket that is next, or None where nothing waits."""
        while self._heads:
            start, serial, tenant = heapq.heappop(self._heads)
            flow = self._flows.get(tenant)
            if flow is None or flow.key() != (start, serial):
                continue
            ticket = flow.head()
            flow.discard(ticket)
            ticket.start = start
            self._virtual = max(self._virtual, start)
            flow.next_start = max(flow.next_start, start + ticket.cost)
            self._left(ticket)
            return ticket
        return None

    def ahead_of(self, tenant: str) -> int:
        """About how many tickets would be served before a new one of `tenant`, as if all cost the same.

        All that it has waiting itself, and each other tenant's turn with each of these and with the new one.
        """
        own = len(self._flows[tenant]) if tenant in self._flows else 0
        return own + sum(min(len(flow), own + 1) for other, flow in self._flows.items() if other != tenant)

    def _flow(self, tenant: str) -> _Flow:
        if (flow := self._flows.get(tenant)) is None:
            start = max(self._virtual, self._finish.pop(tenant, 0.0))
            flow = self._flows[tenant] = _Flow(start)
        return flow

    def _entered(self, ticket: QueueEntry) -> None:
        ticket.waiting = True
        self._waiting += 1
        flow = self._flows[ticket.tenant]
        if flow.head() is ticket:
            self._push_head(ticket.tenant, flow)

    def _left(self, ticket: QueueEntry) -> None:
        ticket.waiting = False
        self._waiting -= 1
        flow = self._flows[ticket.tenant]
        if not self._waiting:
            self._rest()
        elif flow:
            self._push_head(ticket.tenant, flow)
        else:
            del self._flows[ticket.tenant]
            self._finish[ticket.tenant] = flow.next_start
            self._forget_past()

    def _push_head(self, tenant: str, flow: _Flow) -> None:
        heapq.heappush(self._heads, (*flow.key(), tenant))
        if len(self._heads) > 2 * len(self._flows) + 16:
            self._heads = [(*flow.key(), tenant) for tenant, flow in self._flows.items()]
            heapq.heapify(self._heads)

    def _rest(self) -> None:
        """Nothing waits: a new busy period begins with clean tags and no memory of tenants."""
        self._flows.clear()
        self._finish.clear()
        self._heads.clear()
        self._virtual = 0.0

    def _forget_past(self) -> None:
        """Drops finish tags that the virtual time has passed, whenever they outnumber the flows."""
        if len(self._finish) > 2 * len(self._flows) + 64:
            self._finish = {tenant: tag for tenant, tag in self._finish.items() if tag > self._virtual}
