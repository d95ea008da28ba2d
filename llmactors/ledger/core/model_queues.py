"""The queue: one queue per model, and the bound on all requests that wait. Pure."""

from collections.abc import Iterator, Sequence

from llmactors.ledger.core.class_queue import ClassQueue
from llmactors.ledger.core.fair_queue import QueueEntry
from llmactors.ledger.core.record import Record
from llmactors.ledger.request_size import BYTES_PER_TOKEN, RequestSize
from llmactors.ledger.settings import LedgerSettings
from llmactors.messages import GenerateRequest


def queue_entry(request: GenerateRequest, size: RequestSize) -> QueueEntry:
    """The request's place in the queue. Its cost is the tokens that it may take and make, divided by its weight."""
    cost = (request.max_tokens + size.bytes / BYTES_PER_TOKEN) / request.weight
    return QueueEntry(request.id, request.tenant, cost, request.priority)


class ModelQueues:
    """One queue per model, and the counts of what waits in all of them together.

    A record counts from `add` to `remove`. `take` may choose it in between: then the record is in no queue, but it
    still waits, until it is claimed or put back.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._queues: dict[str, ClassQueue] = {}
        self.queued = 0
        self.queued_bytes = 0

    def __repr__(self) -> str:
        return f"<ModelQueues: {self.queued} requests, {self.queued_bytes} bytes, of {sorted(self._queues)}>"

    def has_room_for(self, sizes: Sequence[RequestSize]) -> bool:
        """Whether the bounds allow new requests of these sizes."""
        queued_bytes = self.queued_bytes + sum(size.bytes for size in sizes)
        return self.queued + len(sizes) <= self._settings.max_queued and queued_bytes <= self._settings.max_queued_bytes

    def add(self, record: Record) -> None:
        """Adds a request: a new one behind its tenant's others, one that was claimed before in its old place."""
        self.queued += 1
        self.queued_bytes += record.size.bytes
        if record.epoch:
            self.put_back(record)
        else:
            self._queue(record).push(record.queue_entry)

    def put_back(self, record: Record) -> None:
        """Undoes a `take`."""
        self._queue(record).put_back(record.queue_entry)

    def pass_over(self, record: Record) -> None:
        """Gives the turn of a request that `take` has just returned to another request. The request stays out of its
        queue until `put_back_unserved`.
        """
        if (queue := self._queues.get(record.request.model)) is not None:
            queue.undo_turn(record.queue_entry)

    def put_back_unserved(self, record: Record) -> None:
        """Puts back a request that was passed over. The request has its old place."""
        self._queue(record).put_back_unserved(record.queue_entry)

    def remove(self, record: Record) -> None:
        """Removes a request that waits, whether it was taken or not."""
        self.queued -= 1
        self.queued_bytes -= record.size.bytes
        model = record.request.model
        if record.queue_entry.waiting:
            self._queues[model].remove(record.queue_entry)
            self._tidy(model)

    def take(self, model: str) -> str | None:
        """Takes the next request for `model` out of its queue, and returns its id; None where nothing waits."""
        queue = self._queues.get(model)
        if queue is None:
            return None
        entry = queue.pop()
        self._tidy(model)
        return None if entry is None else entry.key

    def heads(self, model: str) -> list[str]:
        """The ids of the next requests of all classes, the most urgent class first."""
        queue = self._queues.get(model)
        return [] if queue is None else [entry.key for entry in queue.heads()]

    def take_head(self, record: Record) -> None:
        """Takes the next request of its class out of its queue, without a turn for the class."""
        model = record.request.model
        self._queues[model].pop_of(record.request.priority)
        self._tidy(model)

    def ahead_of(self, request: GenerateRequest) -> int:
        """About how many requests would be served before `request`, if it came now."""
        queue = self._queues.get(request.model)
        return 0 if queue is None else queue.ahead_of(request.tenant, request.priority)

    def places(self, model: str) -> Iterator[tuple[str, int]]:
        """The id of each request in the queue of `model`, with its place, counted from 1."""
        queue = self._queues.get(model)
        return iter(()) if queue is None else queue.places()

    def first_come(self, model: str) -> list[tuple[QueueEntry, int]]:
        """Of each class that waits for `model`, the entry that came first, and how many entries wait."""
        queue = self._queues.get(model)
        return [] if queue is None else queue.first_come()

    def has_waiting(self, model: str) -> bool:
        """Whether anything waits in the queue of `model`."""
        return model in self._queues

    def _queue(self, record: Record) -> ClassQueue:
        return self._queues.setdefault(record.request.model, ClassQueue())

    def _tidy(self, model: str) -> None:
        if not self._queues[model]:
            del self._queues[model]
