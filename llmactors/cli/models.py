"""The files of models: a download shows a progress bar."""

from pathlib import Path

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from llmactors.backends.models.download import ensure_model


def fetch(source: str) -> Path:
    """Where the model's file is, after a download if need be, with a progress bar on stderr. Raises `ModelError`."""
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(f"downloading {source}", total=None)

    def show(done_bytes: int, total_bytes: int | None) -> None:
        bar.start()
        bar.update(task, completed=done_bytes, total=total_bytes)

    try:
        return ensure_model(source, progress=show).path
    finally:
        if bar.live.is_started:
            bar.stop()
