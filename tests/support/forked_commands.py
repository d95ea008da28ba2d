"""Starts `python -m llmactors …` by a fork of a process that has imported the package, for a fifth of the CPU time.

`ForkedPopen` takes the place of `subprocess.Popen` in a test session. The process that it starts is a process as any
other: tests kill, freeze and read it. Only its imports happened before. A command starts anew, by `exec`, wherever the
difference could be seen: below another program (`prlimit`, `nohup`, a shell), in another language or with other
variables of Python, with a keeper, on a terminal, or with options of `Popen` that few tests use. `pytest --anew` starts
each command by `exec`.
"""

import inspect
import json
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import llmactors

COMMAND = [sys.executable, "-m", "llmactors"]
_ROOT = Path(llmactors.__file__).parents[1]
_PLAIN = {
    "executable": None, "preexec_fn": None, "close_fds": True, "pass_fds": (), "shell": False, "restore_signals": True,
    "gid": None, "gids": None, "uid": None, "umask": -1, "start_new_session": False, "process_group": -1,
}  # fmt: skip
"""The options with which a fork does the same as a start by `exec`."""
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ", "LLMACTORS_KEEPER")
"""What the names of variables begin with that a process reads when it starts, or that name a keeper."""
_MESSAGE_BYTES = 100_000


class ForkServer:
    """The process that forks, and the socket to it. The process starts with the first command."""

    def __init__(self) -> None:
        self.started = 0
        """How many commands were started by a fork."""
        self._lock = threading.Lock()
        self._environ = dict(os.environ)
        self._socket: socket.socket | None = None

    def suits(self, environ: dict[str, str]) -> bool:
        """Whether the fork server has the same variables of those that a process reads when it starts."""
        return _read_at_start(environ) == _read_at_start(self._environ)

    def start(self, message: bytes, descriptors: list[int]) -> tuple[int, socket.socket]:
        """Starts a command. Returns its process id, and a socket that receives its status when it ends."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            if self._socket is None:
                self._socket = self._begin()
            socket.send_fds(self._socket, [message], [*descriptors, theirs.fileno()])
            self.started += 1
        return int(_received(mine)), mine

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._process.wait()
                self._socket = None

    def _begin(self) -> socket.socket:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            # As a module, so that the server imports the package that the tests import.
            command = [sys.executable, "-m", "tests.support.fork_server", str(number)]
            quiet = subprocess.DEVNULL
            self._process = _Popen(command, stdin=quiet, stdout=quiet, pass_fds=[number], env=self._environ, cwd=_ROOT)
        return mine


_Popen = subprocess.Popen
_EXECUTE = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]


class ForkedPopen(_Popen):  # type: ignore[type-arg]  # the class takes the place of one that is generic
    """`subprocess.Popen`, which asks the fork server for a command of the package."""

    server: ClassVar[ForkServer]
    _status: socket.socket | None = None

    def _execute_child(self, *given: Any) -> None:
        called = _EXECUTE.bind(self, *given).arguments
        words = called["args"]
        plain = isinstance(words, (list, tuple)) and list(words[:3]) == COMMAND
        if not plain or any(called.get(name, usual) != usual for name, usual in _PLAIN.items()):
            return super()._execute_child(*given)  # type: ignore[misc,no-any-return]
        folder = Path(called["cwd"] or Path.cwd())
        environ = dict(os.environ if called["env"] is None else called["env"])
        ends = [called["p2cread"], called["c2pwrite"], called["errwrite"]]
        streams = [place if number == -1 else number for place, number in enumerate(ends)]
        message = json.dumps([[os.fsdecode(word) for word in words[3:]], str(folder), environ]).encode()
        folders = [folder, *map(Path, filter(None, environ.get("PYTHONPATH", "").split(os.pathsep)))]
        suits = self.server.suits(environ) and not any([*map(_has_another_package, folders), *map(os.isatty, streams)])
        if not suits or len(message) > _MESSAGE_BYTES:
            return super()._execute_child(*given)  # type: ignore[misc,no-any-return]
        try:
            self.pid, self._status = self.server.start(message, streams)
            self._child_created = True
        finally:
            pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(called[name] for name in pipes))  # type: ignore[attr-defined]
        return None

    def _internal_poll(self, *given: Any, **options: Any) -> int | None:
        if self._status is not None:
            options["_waitpid"] = self._waited
        found: int | None = super()._internal_poll(*given, **options)  # type: ignore[misc]
        return found

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._status is None:
            found: tuple[int, int] = super()._try_wait(flags)  # type: ignore[misc]
            return found
        return self._waited(self.pid, flags)

    def _waited(self, pid: int, flags: int) -> tuple[int, int]:
        """What `os.waitpid` returns."""
        assert self._status is not None
        if flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        with self._status:
            return pid, int(_received(self._status))


def _read_at_start(environ: dict[str, str]) -> dict[str, str]:
    """The fork server reads PYTHONPATH again for each command."""
    names = {name for name in environ if name.startswith(_READ_AT_START)} - {"PYTHONPATH"}
    return {name: environ[name] for name in names}


def _has_another_package(folder: Path) -> bool:
    """Whether `python -m llmactors` would run another copy of the package in this folder."""
    return (folder / "llmactors").is_dir() and (folder / "llmactors").resolve() != Path(llmactors.__file__).parent


def _received(answers: socket.socket) -> bytes:
    answer = answers.recv(64)
    if not answer:
        raise RuntimeError("the fork server is gone")
    return answer
