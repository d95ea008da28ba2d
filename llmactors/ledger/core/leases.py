"""Workers and their leases: who is alive, what each holds, and what each should hear of."""

from collections import OrderedDict, deque
from collections.abc import Iterator

import attrs

from llmactors.ledger.news import News


@attrs.define(eq=False)
class Worker:
    """One live worker incarnation."""

    id: str
    due: float
    """When its lease ends, unless it beats before."""
    held: dict[str, None] = attrs.field(factory=dict)
    """The ids of what it runs, in order of claim."""
    suspects: int = 0
    """How many suspects it was given together; it gets nothing more until it has none of them left."""
    suspects_max: int = 0
    """How many suspects each of them tolerates, at most."""
    reserved: str | None = None
    """The suspect that it gets as soon as it holds nothing else."""
    _stops: deque[tuple[float, str, int]] = attrs.field(factory=deque)
    news: News = attrs.field(factory=News)

    def hold(self, request_id: str) -> None:
        self.held[request_id] = None

    def hold_suspect(self, request_id: str, together: int) -> None:
        """`together`: how many suspects it tolerates, itself included."""
        self.hold(request_id)
        self.suspects_max = min(self.suspects_max, together) if self.suspects else together
        self.suspects += 1

    def let_go(self, request_id: str) -> None:
        del self.held[request_id]
        if not self.held:
            self.suspects = 0

    def stop(self, request_id: str, epoch: int, until: float) -> None:
        """Its claim is not wanted any more: each beat says so until then, as any one answer may be lost."""
        self._stops.append((until, request_id, epoch))
        self.news.tell_stop()

    def stops(self, now: float) -> tuple[tuple[str, int], ...]:
        """What the answer to a beat says."""
        self.forget_stops(now)
        self.news.heard_stops()
        return tuple((request_id, epoch) for _, request_id, epoch in self._stops)

    def forget_stops(self, now: float) -> None:
        while self._stops and self._stops[0][0] <= now:
            self._stops.popleft()


class Leases:
    """Live workers in the order in which their leases end, and a bounded memory of dead ids."""

    def __init__(self, lease_s: float, dead_kept: int) -> None:
        self._lease_s = lease_s
        self._dead_kept = dead_kept
        self._live: OrderedDict[str, Worker] = OrderedDict()
        self._dead: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._live.values())

    def __repr__(self) -> str:
        return f"<Leases: {len(self._live)} live, {len(self._dead)} dead>"

    def get(self, worker_id: str) -> Worker | None:
        """The worker, if its lease was not taken away. Whether the lease is overdue is for the caller to see."""
        return self._live.get(worker_id)

    def renew(self, worker_id: str, now: float) -> Worker | None:
        """Grants or prolongs a lease; None for a dead id."""
        if worker_id in self._dead:
            return None
        worker = self._live.get(worker_id)
        if worker is None:
            worker = self._live[worker_id] = Worker(worker_id, now)
        worker.due = now + self._lease_s
        # All leases are equally long, so the order of renewal is the order of ending.
        self._live.move_to_end(worker_id)
        return worker

    def bury(self, worker: Worker) -> None:
        """Ends a lease for good."""
        del self._live[worker.id]
        self._dead[worker.id] = None
        if len(self._dead) > self._dead_kept:
            self._dead.popitem(last=False)
        worker.news.tell_stop()

    def first_overdue(self, now: float) -> Worker | None:
        """A worker whose lease has ended by now."""
        worker = next(iter(self._live.values()), None)
        return worker if worker is not None and worker.due <= now else None
