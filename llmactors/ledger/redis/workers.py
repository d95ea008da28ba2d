"""The workers of this process: what each holds, as far as this process knows, and what wakes it."""

from collections.abc import Iterable, Iterator

import attrs

from llmactors.ledger.change_signal import ChangeSignal
from llmactors.ledger.values import Claim

Held = tuple[str, int]
"""The id of a request and the epoch of its claim."""


@attrs.define(eq=False)
class LocalWorker:
    """One incarnation of a worker in this process."""

    changes: ChangeSignal = attrs.field(factory=ChangeSignal)
    held: set[Held] = attrs.field(factory=set)
    _unknown: set[Held] = attrs.field(factory=set)
    _handed: dict[str, list[Claim]] = attrs.field(factory=dict)
    """By model, what was handed to the worker and not taken yet."""
    _open: dict[str, tuple[int, bool]] = attrs.field(factory=dict)
    """By model, whether the worker has open slots, and the order of the newest claim that the ledger knew of then."""
    newest: int = 0
    """The order of the newest claim that this worker knows of. It was told of all before, unless messages were lost."""
    _told: set[int] = attrs.field(factory=set)
    """The orders of the requests that were handed out since the last claim began."""
    may_miss: bool = False
    """Whether messages may have been lost, so that a later message says nothing of those before."""

    def hear(self, model: str, claims: list[tuple[int, Claim]], still_open: int) -> None:
        """Takes the message that requests were handed out. Where messages may have been lost, the next claim finds
        these requests too.
        """
        if not self.may_miss:
            self.add(claims, self._handed.setdefault(model, []))
            self._told.update(order for order, _ in claims)
            self._open[model] = self.newest, still_open > 0
        self.changes.notify_handed(model)

    def answer(
        self, model: str, known: int, claims: list[tuple[int, Claim]], newest: int, *, is_open: bool
    ) -> list[Claim]:
        """Takes the reply to a claim, which had named `known` as the newest claim. Returns all that is to be begun.

        `newest` is the order of the newest claim in the ledger when the reply was made: messages with newer claims
        may have come before this reply is looked at.
        """
        if newest < known:
            self.newest = newest  # the ledger has lost what it knew
        if newest < known or self._open.get(model, (0, False))[0] <= newest:
            self._open[model] = newest, is_open
        found = self.take_handed(model)
        self.add([each for each in claims if each[0] not in self._told], found)
        self._told = {order for order in self._told if order > known}
        self.may_miss = False
        return found

    def add(self, claims: Iterable[tuple[int, Claim]], to: list[Claim]) -> None:
        """Notes claims with their orders, and adds them to a list."""
        for order, claim in claims:
            self.newest = max(self.newest, order)
            self.held.add((claim.request.id, claim.epoch))
            to.append(claim)

    def take_handed(self, model: str) -> list[Claim]:
        """Takes what was handed to this worker."""
        return self._handed.pop(model, [])

    def has_open_slots(self, model: str) -> bool:
        """Whether requests may be handed to this worker, as far as this process knows."""
        return self._open.get(model, (0, False))[1]

    def close_slots(self) -> None:
        """Notes that the ledger hands nothing to this worker until its next claim."""
        self._open = {model: (newest, False) for model, (newest, _) in self._open.items()}

    def unaccounted(self, held_there: set[Held]) -> set[Held]:
        """The claims that the ledger names in two answers in a row, and that this worker does not know."""
        unknown = held_there - self.held
        found, self._unknown = unknown & self._unknown, unknown
        return found


class Workers:
    """All workers of this process by id."""

    def __init__(self) -> None:
        self._workers: dict[str, LocalWorker] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[LocalWorker]:
        return iter(self._workers.values())

    def __repr__(self) -> str:
        return f"<Workers {sorted(self._workers)}>"

    def get(self, worker_id: str) -> LocalWorker:
        """The worker with this id. An unknown worker is added."""
        return self._workers.setdefault(worker_id, LocalWorker())

    def find(self, worker_id: str) -> LocalWorker | None:
        """The worker with this id; None before its first beat, and after it lost its lease."""
        return self._workers.get(worker_id)

    def drop(self, worker_id: str) -> None:
        """Forgets a worker that lost its lease or left, and wakes it."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            worker.changes.notify_stop()

    def holder_of(self, request_id: str, epoch: int) -> str:
        """The id of the worker here that runs the request; empty where none does."""
        held = request_id, epoch
        return next((worker_id for worker_id, worker in self._workers.items() if held in worker.held), "")

    def let_go(self, request_id: str, epoch: int) -> None:
        """Forgets a claim that is over."""
        for worker in self._workers.values():
            worker.held.discard((request_id, epoch))

    def notify_work(self, model: str) -> None:
        """Wakes the workers of `model`: there is something new to claim."""
        for worker in self._workers.values():
            worker.changes.notify_work(model)

    def notify_all(self) -> None:
        """Wakes all workers: anything may have changed, and messages may have been lost."""
        for worker in self._workers.values():
            worker.may_miss = True
            worker.close_slots()
            worker.changes.notify_all()
