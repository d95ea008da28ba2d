"""A burst of events writes few lines, and says how many are missing."""

import structlog

from llmactors.telemetry.bounded_log import BoundedLog


def test_burst_writes_few_lines_and_counts_the_rest() -> None:
    now = 100.0
    log = BoundedLog("llmactors.test", lines=2, period_s=10.0, clock=lambda: now)
    with structlog.testing.capture_logs() as lines:
        for number in range(5):
            log.write("info", "it happened", number=number)
        assert [line["number"] for line in lines] == [0, 1]
        now += 10.0
        log.write("error", "it happened", number=5)
    assert [line.get("lines") or line["number"] for line in lines] == [0, 1, 3, 5]
    assert lines[-1]["log_level"] == "error"
