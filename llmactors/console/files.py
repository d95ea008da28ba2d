"""The files of the console, with their content types, ETags and security headers."""

import functools
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import attrs

PAGE = "index.html"
"""The name of the page at `/`, which loads all other files."""
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # No script may give a string to a function that makes HTML or code of it.
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    # A browser asks each time whether its copy is still the newest, so an upgrade shows at the next load.
    ("cache-control", "no-cache"),
)
"""The headers of every file."""


@attrs.frozen
class ConsoleFile:
    """One file of the console."""

    content_type: str
    data: bytes
    etag: str
    """The quoted ETag, which is made of the content."""


@functools.cache
def console_files() -> Mapping[str, ConsoleFile]:
    """All files of the console, by their path below `/console/`. The files are read from the disk once."""
    return dict(_read(files("llmactors.console") / "static", ""))


def _read(folder: Traversable, prefix: str) -> list[tuple[str, ConsoleFile]]:
    found: list[tuple[str, ConsoleFile]] = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
            continue
        content_type = _CONTENT_TYPES.get(f".{entry.name.rpartition('.')[2]}")
        if content_type is not None:
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
            found.append((f"{prefix}{entry.name}", ConsoleFile(content_type, data, etag)))
    return found
