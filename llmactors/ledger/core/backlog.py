"""All requests that wait, of all models, and the bound on them. Pure."""

from collections.abc import Sequence

from llmactors.ledger.core.class_queue import ClassQueue
from llmactors.ledger.core.fair_queue import QueueEntry
from llmactors.ledger.core.record import Record
from llmactors.ledger.request_size import BYTES_PER_TOKEN, RequestSize
from llmactors.ledger.settings import LedgerSettings
from llmactors.messages import GenerateRequest


def queue_entry(request: GenerateRequest, size: RequestSize) -> QueueEntry:
    """Its place in the queue, which costs the tenant the tokens that it may take and make, over its weight."""
    cost = (request.max_tokens + size.bytes / BYTES_PER_TOKEN) / request.weight
    return QueueEntry(request.id, request.tenant, cost, request.priority)


class Backlog:
    """One queue per model, and what waits in all of them together.

    A record counts from `enter` to `leave`. In between `take` may have chosen it: then it is in no queue, but waits
    still, until it is claimed or put back.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._queues: dict[str, ClassQueue] = {}
        self.queued = 0
        self.queued_bytes = 0

    def __repr__(self) -> str:
        return f"<Backlog: {self.queued} requests, {self.queued_bytes} bytes, of {sorted(self._queues)}>"

    def admits(self, sizes: Sequence[RequestSize]) -> bool:
        """Whether there is room for new requests of these sizes."""
        queued_bytes = self.queued_bytes + sum(size.bytes for size in sizes)
        return self.queued + len(sizes) <= self._settings.max_queued and queued_bytes <= self._settings.max_queued_bytes

    def enter(self, record: Record) -> None:
        """Lets a new request wait, or one that was claimed before: that one keeps its place."""
        self.queued += 1
        self.queued_bytes += record.size.bytes
        if record.epoch:
            self.put_back(record)
        else:
            self._queue(record).push(record.ticket)

    def put_back(self, record: Record) -> None:
        """Undoes a `take`."""
        self._queue(record).put_back(record.ticket)

    def leave(self, record: Record) -> None:
        """It waits no longer, whether it was taken or not."""
        self.queued -= 1
        self.queued_bytes -= record.size.bytes
        model = record.request.model
        if record.ticket.waiting:
            self._queues[model].remove(record.ticket)
            self._tidy(model)

    def take(self, model: str) -> str | None:
        """The id of the request that is next for `model`."""
        queue = self._queues.get(model)
        if queue is None:
            return None
        ticket = queue.pop()
        self._tidy(model)
        return None if ticket is None else ticket.key

    def ahead_of(self, request: GenerateRequest) -> int:
        """About how many requests would be served before `request`, if it came now."""
        queue = self._queues.get(request.model)
        return 0 if queue is None else queue.ahead_of(request.tenant, request.priority)

    def waits(self, model: str) -> bool:
        """Whether anything waits for `model`."""
        return model in self._queues

    def _queue(self, record: Record) -> ClassQueue:
        return self._queues.setdefault(record.request.model, ClassQueue())

    def _tidy(self, model: str) -> None:
        if not self._queues[model]:
            del self._queues[model]
