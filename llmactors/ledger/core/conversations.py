"""Which worker had each conversation last. Pure."""

from collections import OrderedDict


class Conversations:
    """The workers that began the last requests of the newest conversations.

    A conversation is known by its key and its model. At most `most` are remembered, each for `kept_s` seconds after its
    last request began.
    """

    def __init__(self, most: int, kept_s: float) -> None:
        self._most = most
        self._kept_s = kept_s
        self._workers: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._workers)

    def __repr__(self) -> str:
        return f"<Conversations: {len(self)}>"

    def note(self, model: str, conversation: str, worker_id: str, now: float) -> None:
        """Remembers that the worker began a request of the conversation."""
        key = model, conversation
        self._workers[key] = worker_id, now
        self._workers.move_to_end(key)
        if len(self._workers) > self._most:
            self._workers.popitem(last=False)

    def forget_old(self, now: float) -> None:
        """Forgets conversations whose time is over."""
        while self._workers and now - next(iter(self._workers.values()))[1] >= self._kept_s:
            self._workers.popitem(last=False)

    def last_worker(self, model: str, conversation: str, now: float) -> str | None:
        """The worker that began the last request of the conversation; None where none is remembered."""
        worker_id, at = self._workers.get((model, conversation), (None, now))
        return worker_id if now - at < self._kept_s else None
