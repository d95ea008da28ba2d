"""The limit on the open files of this process, which bounds the number of its connections."""

import contextlib
import resource
from pathlib import Path

import structlog

from llmactors.http.connection_limits import Capacity

log = structlog.get_logger("llmactors.http")

_OPEN_FILES = Path("/proc/self/fd")
_GUESS = 64
"""The number of open files where the system does not report the number."""


def within_file_limit(capacity: Capacity) -> Capacity:
    """The part of `capacity` that the limit on open files allows. The soft limit is raised to the hard limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # the limit stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return capacity
    open_files = len(list(_OPEN_FILES.iterdir())) if _OPEN_FILES.is_dir() else _GUESS
    allowed = capacity.within(soft, open_files)
    if allowed.most < capacity.most:
        log.warning("the limit on open files lowers the number of connections", files=soft, connections=allowed.most)
    return allowed
