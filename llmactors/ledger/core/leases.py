"""Workers and their leases: which workers are alive, what each holds, and what each is told. Pure.

A request in quarantine is called a suspect here: its earlier attempts ended in crashes.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator

import attrs

from llmactors.ledger.change_signal import ChangeSignal
from llmactors.ledger.core.silence import name_of


@attrs.define(eq=False)
class Worker:
    """One live incarnation of a worker."""

    id: str
    due: float
    """When the lease ends, unless the worker beats before."""
    held: dict[str, None] = attrs.field(factory=dict)
    """The ids of the requests that the worker runs, in the order of their claims."""
    suspects: int = 0
    """How many suspects the worker claimed together. The worker gets nothing more until all of them are done."""
    suspects_max: int = 0
    """How many suspects may run together at most, so that each of them allows it."""
    reserved: str | None = None
    """The suspect that the worker gets once it holds nothing else."""
    room: dict[str, int] = attrs.field(factory=dict)
    """By model, how many more requests the worker could have taken in its last claim."""
    _stops: deque[tuple[float, str, int]] = attrs.field(factory=deque)
    changes: ChangeSignal = attrs.field(factory=ChangeSignal)

    @property
    def takes_all(self) -> bool:
        """Whether the worker may get any request: it neither runs suspects nor is reserved for one."""
        return not self.suspects and self.reserved is None

    def hold(self, request_id: str) -> None:
        self.held[request_id] = None

    def hold_suspect(self, request_id: str, together: int) -> None:
        """`together`: how many suspects may run with this one, itself included."""
        self.hold(request_id)
        self.suspects_max = min(self.suspects_max, together) if self.suspects else together
        self.suspects += 1

    def let_go(self, request_id: str) -> None:
        del self.held[request_id]
        if not self.held:
            self.suspects = 0

    def stop(self, request_id: str, epoch: int, until: float) -> None:
        """Until `until`, the answer to each beat says that this claim is not wanted any more, since an answer may be
        lost.
        """
        self._stops.append((until, request_id, epoch))
        self.changes.notify_stop()

    def stops(self, now: float) -> tuple[tuple[str, int], ...]:
        """The claims that the answer to a beat names."""
        self.forget_stops(now)
        self.changes.clear_stop()
        return tuple((request_id, epoch) for _, request_id, epoch in self._stops)

    def forget_stops(self, now: float) -> None:
        while self._stops and self._stops[0][0] <= now:
            self._stops.popleft()


class Leases:
    """Live workers in the order in which their leases end, and the newest ids of dead workers."""

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
        """The worker with this id, unless its lease was ended. The lease may be overdue."""
        return self._live.get(worker_id)

    def renew(self, worker_id: str, now: float) -> Worker:
        """Grants or renews a lease of a worker that is not dead."""
        worker = self._live.get(worker_id)
        if worker is None:
            worker = self._live[worker_id] = Worker(worker_id, now)
        worker.due = now + self._lease_s
        # All leases are equally long, so they end in the order of their renewals.
        self._live.move_to_end(worker_id)
        return worker

    def is_dead(self, worker_id: str) -> bool:
        """Whether the worker with this id lost its lease, or left."""
        return worker_id in self._dead

    def namesakes(self, worker_id: str) -> list[Worker]:
        """Other live incarnations of the same worker."""
        name = name_of(worker_id)
        return [other for other in self if name and name_of(other.id) == name and other.id != worker_id]

    def others_beat(self, now: float) -> bool:
        """Whether some worker has beaten in the last half of a lease.

        While all are silent, the cause is not with one of them: the machine, or all processes, may have been stopped.
        """
        newest = next(reversed(self._live.values()), None)
        return newest is not None and newest.due - now >= self._lease_s / 2

    def end(self, worker: Worker) -> None:
        """Ends a lease for good."""
        del self._live[worker.id]
        self._dead[worker.id] = None
        if len(self._dead) > self._dead_kept:
            self._dead.popitem(last=False)
        worker.changes.notify_stop()

    def first_overdue(self, now: float) -> Worker | None:
        """A worker whose lease has ended by `now`; None if no lease has."""
        worker = next(iter(self._live.values()), None)
        return worker if worker is not None and worker.due <= now else None
