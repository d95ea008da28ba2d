"""The Redis server of a local cluster, which serves only the user who runs the cluster.

The server listens on a Unix socket, and on no port. Its socket and its files can be read by this user alone.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import quote

import structlog

from llmactors.cluster.child import ChildSpec
from llmactors.errors import OperatorError
from llmactors.redislink.binary import any_server_binary

log = structlog.get_logger("llmactors")

PRIVATE = 0o077
"""The umask under which new files and sockets are for this user alone."""
_SOCKET = "redis.sock"
_FILES = "appendonlydir"
GRACE_S = 10.0


class OwnServer:
    """A server with its data in the folder `data`, which is made if it is missing. Call `close` after its end.

    Raises:
        OperatorError: There is no server program, or the folder cannot be written, or another cluster uses the folder.
    """

    def __init__(self, data: Path, on_ready: Callable[[str, str], None]) -> None:
        self._binary = any_server_binary()
        self._data = data.absolute()
        self._on_ready = on_ready
        self._lock = _lock(self._data)
        _make_private(self._data)
        self._temporary: Path | None = None
        self._socket = self._data / _SOCKET
        if not _can_listen(self._socket):
            # The path is too long for a socket, or the file system has no sockets.
            self._temporary = Path(tempfile.mkdtemp(prefix="llmactors-"))
            self._socket = self._temporary / _SOCKET

    def __repr__(self) -> str:
        return f"<OwnServer on {self._socket}>"

    @property
    def url(self) -> str:
        """The URL of the server. The URL holds no secret, because only this user can open the socket."""
        return f"unix://{quote(str(self._socket))}"

    def child(self) -> ChildSpec:
        """How the process of the server is started."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            # A server that was killed reads its whole file before it answers, so the file is kept small.
            "auto-aof-rewrite-min-size": "16mb",
            "maxmemory-policy": "noeviction",
        }
        text = f"{Path(self._binary).name} on {self._socket}, data in {self._data}"
        return ChildSpec(
            name="redis",
            command=[self._binary, *(word for name, value in options.items() for word in (f"--{name}", value))],
            ready=lambda line: "ready to accept connections" in line.lower(),
            on_ready=lambda _: self._on_ready("redis", text),
            on_line=lambda line: log.debug("redis", line=line),
            # The server marks its warnings with a number sign.
            reason=lambda line: line.partition(" # ")[2],
            grace_s=GRACE_S,
            umask=PRIVATE,
        )

    def close(self) -> None:
        """Gives the folder free for another cluster."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._lock.close()


def _lock(data: Path) -> IO[bytes]:
    """Locks the folder for this process until the returned file is closed."""
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        lock = (data / "lock").open("wb")
    except OSError as error:
        raise OperatorError(f"cannot write to {data}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OperatorError(f"another cluster has its data in {data}: choose another place with --data-dir") from error
    return lock


def _make_private(data: Path) -> None:
    """Takes the rights of other users from files that an earlier version made.

    The folder itself is changed only if it holds nothing but the cluster's data: it may be any folder of the user.
    """
    ours = {"lock", _SOCKET, _FILES}
    with contextlib.suppress(OSError):  # the folder may belong to another user, as a mounted volume does
        files = [data / _FILES, *(data / _FILES).rglob("*")] if (data / _FILES).is_dir() else []
        for path in files if {path.name for path in data.iterdir()} - ours else [data, *files]:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~PRIVATE)


def _can_listen(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    before = os.umask(PRIVATE)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(os.fsencode(path))
        path.unlink()
    except OSError:
        return False
    finally:
        os.umask(before)
    return True
