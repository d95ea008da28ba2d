"""Exceptions in what a process wrote, in each form of the log."""

import json
import subprocess
import sys

import pytest

from llmactors.testing.tracebacks import tracebacks_in

FAILING = """
import structlog
from llmactors.telemetry.logs import configure_logging
configure_logging(json=sys.argv[1] == "json")
try:
    {}["missing"]
except KeyError as error:
    structlog.get_logger().exception("a lookup failed", exc_info=error)
structlog.get_logger().error("an error without an exception", exception_count=0)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_logged_exception_is_found_in_each_form(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys{FAILING}", form], capture_output=True, text=True, check=True
    )
    (found,) = tracebacks_in(done.stdout + done.stderr)
    assert "KeyError" in found


def test_line_that_a_kill_cut_is_found() -> None:
    whole = json.dumps({"event": "connection failed", "exception": [{"exc_type": "KeyError"}]})
    assert tracebacks_in(whole[:-8]) == [whole[:-8]]


def test_log_without_exceptions_has_none() -> None:
    assert tracebacks_in('llmactors serves mock\n{"event": "stopped", "exception": null}\n') == []
