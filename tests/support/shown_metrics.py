"""All metrics that a node can show."""

import re

from llmactors.telemetry import Metrics


def shown_metrics() -> dict[str, str]:
    """The name of each metric in Prometheus's text format, and its type."""
    metrics = Metrics()
    metrics.ledger.show(
        queued=0, running=0, ended=0, workers=0, quarantined=0, dead_letters=0, requeued_total=0, fenced_total=0
    )
    return dict(re.findall(r"^# TYPE (\S+) (\w+)", metrics.render()[0].decode(), re.MULTILINE))
