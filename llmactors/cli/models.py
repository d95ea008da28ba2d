"""The files of models: a download shows a progress bar."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from llmactors.backends.build import ServedModel
from llmactors.backends.models import download

T = TypeVar("T")


def fetch_missing(models: Iterable[ServedModel]) -> None:
    """Downloads the files that `models` lack. Raises `ModelError`."""
    for model in models:
        if model.fetch is not None:
            with_bar(model.name, model.fetch)


def with_bar(name: str, fetch: Callable[[download.Progress], T]) -> T:
    """What `fetch` returns, after a download if need be, with a progress bar on stderr. Raises `ModelError`."""
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(f"downloading {name}", total=None)

    def show(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes:
            bar.start()
        bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        return fetch(show)
    finally:
        if bar.live.is_started:
            bar.stop()
