"""The process that has imported the package, and forks a process for each command: see `forked_commands`.

A message on the socket has the words, the folder and the variables of a command, with four descriptors: standard input,
output and error, and a socket that receives the process id, and the status when the process has ended.
"""

import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
from types import FrameType

from llmactors.cli import main
from llmactors.cli.commands import COMMANDS, GROUPS

_MODULES = (
    *(f"llmactors.cli.{name}" for name in (*COMMANDS, *GROUPS)),
    "llmactors.cli.mistakes",
    "llmactors.system.operator_access",
    "llmactors.system.gateway_node",
    "llmactors.system.worker_node",
    "llmactors.system.node",
)


def serve(requests: socket.socket) -> list[str] | None:
    """Forks for each message. Returns the words of the command in each fork, and None at the end of the messages."""
    answers: dict[int, socket.socket] = {}
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _wake)
    # Ctrl-C in a terminal reaches this process too, and ends the tests, not the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        ready = select.select([requests, woken], [], [])[0]
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
            _report_ended(answers)
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            return None
        answer = socket.socket(fileno=descriptors.pop())
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for each in (answer, requests, woken, wakes, *answers.values()):
                each.close()
            return _become(json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        answers[pid] = answer
        with contextlib.suppress(BrokenPipeError):
            answer.send(str(pid).encode())


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Makes a signal write to the descriptor that `serve` waits on."""


def _report_ended(answers: dict[int, socket.socket]) -> None:
    while answers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with answers.pop(pid) as answer, contextlib.suppress(BrokenPipeError):
            answer.send(str(status).encode())


def _become(command: tuple[list[str], str, dict[str, str]], descriptors: list[int]) -> list[str]:
    words, folder, environ = command
    # The descriptors are above 2, since this process has its own three.
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, place)
        os.close(descriptor)
    for place, name in enumerate(("stdin", "stdout", "stderr")):
        _open_stream(place, name)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    added = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:1] = [folder, *added]  # as of `python -m`
    sys.argv = [sys.argv[0], *words]
    sys.orig_argv = [sys.executable, "-m", "llmactors", *words]
    return words


def _open_stream(descriptor: int, name: str) -> None:
    """Opens a standard stream as the interpreter does when it starts: this process opened its own for other files."""
    old = getattr(sys, name)
    raw = io.FileIO(descriptor, "r" if descriptor == 0 else "w", closefd=False)
    binary = io.BufferedReader(raw) if descriptor == 0 else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(
        binary, encoding=old.encoding, errors=old.errors, newline="\n", line_buffering=name == "stderr"
    )
    stream.mode = old.mode  # type: ignore[misc]  # a text file has a mode, which `open` sets
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    for module in _MODULES:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as own:
        found = serve(own)
    if found is not None:
        main(found)
