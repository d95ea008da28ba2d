"""What prometheus_client lacks: a text without `_created` series for one registry, and callbacks before each scrape."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from llmactors.actors import fatal
from llmactors.telemetry.logs import get_logger

_log = get_logger(__name__)


class WithoutCreated(Collector):
    """The metrics of `source` without their `_created` series.

    prometheus_client can switch these series off for the whole process only, and a program that embeds llmactors may
    want them for its own metrics.
    """

    def __init__(self, source: CollectorRegistry) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        for metric in self._source.collect():
            kept = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            kept.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield kept


class BeforeScrape(Collector):
    """Runs callbacks at the beginning of each scrape, and has no metrics of its own.

    This collector must be registered first, because a registry collects in the order of registration.
    """

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[], None]] = {}

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Adds a callback, and returns a function that removes the callback. Removing twice is no error."""
        key = object()
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)

        return remove

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for callback in tuple(self._callbacks.values()):
            try:
                callback()
            except Exception as error:
                if fatal(error) is not None:
                    raise
                # A broken callback must not hide the other metrics.
                _log.exception("a metrics callback failed")
        return []
