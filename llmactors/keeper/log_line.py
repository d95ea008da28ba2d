"""The lines that the keeper writes to standard error, in the form of a gateway's log."""

import contextlib
import os
import select
import time


def write_log_line(form: str, level: str, event: str) -> None:
    """Writes a line in the form `json` or for people, unless standard error is full."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event = event.replace("\\", "/").replace('"', "'")
    line = f"{at} [{level:<8}] {event} [llmactors.keeper]\n"
    if form == "json":
        line = f'{{"event": "{event}", "level": "{level}", "logger": "llmactors.keeper", "timestamp": "{at}"}}\n'
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    with contextlib.suppress(OSError):
        if poll.poll(0):
            os.write(2, line.encode())
