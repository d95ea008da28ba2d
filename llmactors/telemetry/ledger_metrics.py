"""The metrics of the whole ledger. One node of a cluster shows them, so that a sum over nodes counts nothing twice."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from llmactors.telemetry.instruments import Instruments

CLASSES = 3
"""The number of priority classes, each of which is shown for each model, also where nothing waits."""


class LedgerMetrics(Collector):
    """Shows the figures of the ledger between `show` and `hide`, and no series at all before and after."""

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self._shown = False
        new = Instruments(self._own)
        self._requests = new.gauges("llmactors_ledger_requests", "Requests that the ledger knows, by state.", "state")
        self._requeued = new.total("llmactors_ledger_requeued", "Requests that went back to the queue after a loss.")
        self._fenced = new.total("llmactors_ledger_fenced", "Appends that were refused because a newer epoch exists.")
        self._workers = new.gauge("llmactors_ledger_workers", "Workers whose leases are live.")
        self._quarantined = new.gauge("llmactors_ledger_quarantined", "Requests in quarantine.")
        self._dead_letters = new.gauge("llmactors_ledger_dead_letters", "Requests that were given up and are kept.")
        self._waiting = new.gauges(
            "llmactors_queue_requests", "Requests that wait, by model and priority class.", "model", "class"
        )
        self._oldest = new.gauges(
            "llmactors_queue_oldest_seconds", "How long the request that came first has waited.", "model", "class"
        )

    def show(
        self,
        *,
        queued: int,
        running: int,
        ended: int,
        workers: int,
        quarantined: int,
        dead_letters: int,
        requeued_total: int,
        fenced_total: int,
    ) -> None:
        """Shows the ledger's statistics from now on. Call this before each scrape."""
        self._shown = True
        for state, count in (("queued", queued), ("running", running), ("ended", ended)):
            self._requests.of(state).set(count)
        self._workers.set(workers)
        self._quarantined.set(quarantined)
        self._dead_letters.set(dead_letters)
        self._requeued.rise_to(requeued_total)
        self._fenced.rise_to(fenced_total)

    def show_queue(self, models: Sequence[str], waiting: Iterable[tuple[str, int, int, float]]) -> None:
        """Shows what waits.

        Args:
            models: All models that requests may wait for.
            waiting: Model, class, number of requests and age of the oldest in seconds, of each queue that is not empty.
        """
        self._waiting.clear()
        self._oldest.clear()
        for model in models:
            for priority in range(CLASSES):
                self._waiting.of(model, priority).set(0)
                self._oldest.of(model, priority).set(0)
        for model, priority, count, oldest_s in waiting:
            self._waiting.of(model, priority).set(count)
            self._oldest.of(model, priority).set(oldest_s)

    def hide(self) -> None:
        """Shows nothing from now on, because another node shows the figures."""
        self._shown = False

    def collect(self) -> Iterable[Metric]:
        return self._own.collect() if self._shown else []
