"""Prometheus's own linter accepts the metrics of a node."""

import shutil
import subprocess

import pytest

from llmactors.telemetry import Metrics
from tests.unit.telemetry.test_metrics import exercise

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install -y prometheus")
def test_promtool_finds_nothing_to_mend() -> None:
    metrics = Metrics()
    exercise(metrics)
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=metrics.render()[0], capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
