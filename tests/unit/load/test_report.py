"""The exit code of a report, and its table."""

from typing import Any

import pytest
from rich.console import Console

from llmactors.load.plan import Plan
from llmactors.load.report import exit_code, report
from llmactors.load.table import show
from llmactors.load.tally import Tally
from llmactors.load.target import Target
from llmactors.load.token_times import TokenTimes

PLAN = Plan(target=Target("127.0.0.1", 1, "127.0.0.1:1"))


def of(correct: int, failed: int, ended: str = "complete") -> dict[str, Any]:
    tally = Tally()
    for _ in range(correct):
        tally.succeed(TokenTimes(2, [1.0, 1.5], [1, 1]), begun=0.5, ended=1.5, at=1.5)
    for _ in range(failed):
        tally.fail("cut", "closed [red]by the server[/]", at=1.0)
    client = {"busy": 0.5, "cores": [0]}
    return report(PLAN.described(), tally, seconds=2.0, ended=ended, client=client)


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (of(3, 0), 0),
        (of(3, 1), 1),
        (of(0, 3), 1),
        (of(3, 0, "interrupted"), 130),
        (of(3, 1, "interrupted"), 1),
        (of(3, 1, "limit"), 1),
    ],
)
def test_exit_code_is_0_only_after_a_complete_run(result: dict[str, Any], code: int) -> None:
    assert exit_code(result) == code


def test_table_shows_figures_and_escapes_text() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        show(of(3, 1), console)
    shown = capture.get()
    assert "3 of 4 answers whole in 2.00 s: 1.5 requests/s, 3 tokens/s" in shown
    assert "failed: 1 x cut" in shown
    assert "[red]by the server[/]" in shown


def test_run_without_answers_has_a_table() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        show(of(0, 0, "interrupted"), console)
    assert "0 of 0 answers" in capture.get()
