"""Tables cut no cell, at any width and in pipes."""

import re

import pytest
from rich.table import Table

from llmactors.cli import tables

ID, CAUSE = "req_0123456789abcdef0123456789abcdef", "the backend crashed in all attempts, with [brackets]"


def a_table() -> Table:
    table = Table("id", "model", "cause")
    table.add_row(ID, "smollm2-135m", CAUSE.replace("[", "\\["))
    table.add_row("short", "", "none")
    return table


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_cell_is_cut(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    tables.show(a_table())
    seen = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert ID in seen
    assert "…" not in seen
    assert max(len(line) for line in seen.splitlines()) <= width
    words = seen.replace("┃", " ").replace("│", " ").split()
    assert set(CAUSE.split()) <= {word.rstrip(";") for word in words}


def test_pipe_gets_one_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(a_table())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["id", ID, "short"]
    assert CAUSE in lines[1]
