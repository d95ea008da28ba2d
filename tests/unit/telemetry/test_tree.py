"""What the log says about crashes in the tree."""

import structlog.testing

from llmactors.actors import Exit, ExitKind
from llmactors.errors import OperatorError
from llmactors.telemetry import Metrics
from llmactors.telemetry.tree import LoggingObserver


def test_first_crash_of_a_kind_has_its_traceback() -> None:
    observer = LoggingObserver(Metrics())
    errors = [ValueError("the file is gone"), ValueError("the file is gone"), KeyError("other")]
    with structlog.testing.capture_logs() as lines:
        for error in errors:
            exit_ = Exit(ExitKind.CRASHED, error)
            observer.restarting("node/serving", ("model",), exit_, delay_s=0.1, count=1, intensity=5)
    crashed = [line for line in lines if line["event"] == "an actor crashed"]
    assert [line["exc_info"] for line in crashed] == [errors[0], errors[2]]
    assert {line["actor"] for line in crashed} == {"node/serving/model"}
    assert len(lines) - len(crashed) == 3


def test_crash_that_says_what_to_do_has_no_traceback() -> None:
    observer = LoggingObserver(Metrics())
    group = ExceptionGroup("one", [OperatorError("w1 was killed by SIGKILL")])
    with structlog.testing.capture_logs() as lines:
        observer.restarting("up/w1", ("process",), Exit(ExitKind.CRASHED, group), delay_s=0.1, count=1, intensity=5)
    assert [line["event"] for line in lines] == ["the supervisor restarts actors"]
    assert "w1 was killed by SIGKILL" in lines[0]["cause"]
