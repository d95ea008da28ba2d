"""Which running request gives its slot to which waiting request. Pure."""

import math
from collections.abc import Iterable, Sequence

from llmactors.ledger.core.record import Record
from llmactors.ledger.settings import LedgerSettings


class Preemptions:
    """The rules of preemption, and when each model had its last one."""

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._last: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Preemptions of {sorted(self._last)}>"

    def choose(
        self, model: str, heads: Iterable[Record], offered: Sequence[Record], now: float
    ) -> tuple[Record, Record] | None:
        """A waiting request and the running request that gives up its slot for it; None where no request has to.

        Args:
            model: The model of all these requests.
            heads: The next request of each class, the most urgent class first.
            offered: The requests that their worker would give up, the best one first.
            now: The time.
        """
        settings = self._settings
        pause_s = now - self._last.get(model, -math.inf)
        if not settings.preempt_after_s or pause_s < 1 / settings.preemptions_per_s:
            return None
        for waiting in heads:
            if waiting.quarantined or waiting.due <= now or now - waiting.queued_at < settings.preempt_after_s:
                continue
            for running in offered:
                if running.request.priority > waiting.request.priority:
                    return waiting, running
        return None

    def may_give_way(self, record: Record) -> bool:
        """Whether the running request may be preempted once more."""
        return not record.quarantined and record.preemptions < self._settings.preemptions_max

    def note(self, model: str, record: Record, now: float) -> None:
        """Counts a preemption of `record`."""
        record.preemptions += 1
        self._last[model] = now
