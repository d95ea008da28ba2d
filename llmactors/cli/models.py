"""The files of models: a download shows a progress bar, or lines where there is no terminal."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from llmactors.backends.build import ServedModel
from llmactors.backends.models import download
from llmactors.cli.descriptors import complain

T = TypeVar("T")
_LINE_EVERY_S = 10.0


def fetch_missing(models: Iterable[ServedModel]) -> None:
    """Downloads the files that `models` lack. Raises `ModelError`."""
    for model in models:
        if model.fetch is not None:
            with_bar(model.name, model.fetch)


def with_bar(name: str, fetch: Callable[[download.Progress], T]) -> T:
    """What `fetch` returns, after a download if need be. Raises `ModelError`.

    The progress is a bar on standard error. Where that is no terminal, the progress is a line every ten seconds.
    """
    shown: _Bar | _Lines = _Bar(name) if sys.stderr.isatty() else _Lines(name)
    try:
        return fetch(shown)
    finally:
        shown.end()


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, name: str) -> None:
        columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._name = name
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(f"downloading {name}", total=None)

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes:
            self._bar.start()
        self._bar.update(self._task, completed=done_bytes, total=total_bytes)

    def waits_for(self, holder: str) -> None:
        """Says for whom the download waits."""
        complain(_waits(self._name, holder))

    def end(self) -> None:
        """Takes the bar away."""
        if self._bar.live.is_started:
            self._bar.stop()


class _Lines:
    """Lines for a log, at most one every ten seconds, and one at the end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._next_line = 0.0
        self._last = ""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        if not done_bytes:
            return
        total = "" if total_bytes is None else f" of {round(total_bytes / 1e6)}"
        self._last = f"downloading {self._name}: {round(done_bytes / 1e6)}{total} MB"
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_EVERY_S
            complain(self._last)
            self._last = ""

    def waits_for(self, holder: str) -> None:
        """Says for whom the download waits."""
        complain(_waits(self._name, holder))

    def end(self) -> None:
        """Writes how far the download came, unless the last line says so."""
        if self._last:
            complain(self._last)


def _waits(name: str, holder: str) -> str:
    return f"{name} is downloaded already by {holder}: this command waits for that process"
