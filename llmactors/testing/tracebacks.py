"""Finds what a process wrote of exceptions: as the text that Python prints, or as a line of its JSON log."""

import json
from collections.abc import Iterator

TEXT = "Traceback (most recent call last)"


def tracebacks_in(written: str) -> list[str]:
    """The first traceback that is text, and each line of the log that carries an exception."""
    return [*_text(written), *(line for line in written.splitlines() if _has_exception(line))]


def _text(written: str) -> Iterator[str]:
    at = written.find(TEXT)
    if at >= 0:
        begin = written.rfind("\n", 0, at) + 1  # of the line, which may have something before it
        yield written[begin : begin + 4000]


def _has_exception(line: str) -> bool:
    if not line.startswith("{") or '"exception"' not in line:
        return False
    try:
        event = json.loads(line)
    except ValueError:  # the process was killed while it wrote the line
        return True
    return bool(event.get("exception"))
