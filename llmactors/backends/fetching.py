"""Downloads a model's files in a thread, while the event loop answers probes and logs the progress."""

from collections.abc import Callable
from typing import Never

import structlog
import trio

from llmactors.backends.kind import FetchFiles

log = structlog.get_logger("llmactors.backends")

_SHOW_EVERY_S = 0.5
_LOG_EVERY_S = 10.0


class _Abandoned(Exception):
    """Ends the thread of a download that nobody waits for any more."""


class _Download:
    """What the thread has downloaded, for the event loop to read."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.begun = False
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self.abandoned = False

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        if self.abandoned:
            raise _Abandoned
        self.begun, self.done_bytes, self.total_bytes = True, done_bytes, total_bytes

    def waits_for(self, holder: str) -> None:
        log.info(
            "the download waits, because another process downloads the same file", model=self._model, holder=holder
        )

    def __str__(self) -> str:
        done = round(self.done_bytes / 1e6)
        if self.total_bytes is not None:
            return f"{done} of {round(self.total_bytes / 1e6)} MB"
        return f"{done} MB" if done else ""


async def fetch_files(model: str, fetch: FetchFiles, show: Callable[[str], None]) -> None:
    """Runs `fetch` in a thread until the files of `model` are there.

    Each download is logged: its beginning, its progress every ten seconds, and its end. `show` gets the progress as a
    text, as in `downloading 12 of 105 MB`, and an empty text at the end. A cancel returns at once, and the thread ends
    by itself.

    Raises:
        ModelError: The files cannot be had.
    """
    download = _Download(model)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, model, download, show)
            await trio.to_thread.run_sync(fetch, download, abandon_on_cancel=True)
            nursery.cancel_scope.cancel(reason="the files are there")
    finally:
        download.abandoned = True
    if download.begun:
        show("")
        log.info("the model was downloaded", model=model)


async def _tell(model: str, download: _Download, show: Callable[[str], None]) -> Never:
    while not download.begun:  # noqa: ASYNC110 - the thread only sets fields
        await trio.sleep(_SHOW_EVERY_S / 10)
    next_line = trio.current_time()
    while True:
        show(f"downloading {download}".strip())
        if trio.current_time() >= next_line:
            log.info("the model is being downloaded", model=model, progress=str(download) or "begun")
            next_line += _LOG_EVERY_S
        await trio.sleep(_SHOW_EVERY_S)
