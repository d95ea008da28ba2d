"""Becomes the keeper of a gateway, and finds the keepers of this machine."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import attrs

import llmactors.keeper
from llmactors.cli.running import logs_are_json
from llmactors.cluster.node_record import Role
from llmactors.cluster.parent_death import ends_with_this_process
from llmactors.config import Settings
from llmactors.http.connection_limits import Capacity
from llmactors.http.server import ListeningSocket
from llmactors.http.tcp_position import counts_bytes
from llmactors.keeper.protocol import SOCKET_VARIABLE
from llmactors.keeper.status import KeeperStatus, status_of
from llmactors.system.cluster_node import name_of_process

_PROGRAM = str(Path(llmactors.keeper.__file__).parent)
_ABOVE_LIMIT = 64
"""The connections that are held beyond the gateway's limit: the gateway itself refuses these."""


@attrs.frozen
class RunningKeeper:
    """A keeper of this machine."""

    pid: int
    url: str
    status: KeeperStatus

    def __str__(self) -> str:
        return f"the keeper {self.pid} of {self.url}"


def has_keeper() -> bool:
    """Whether a keeper started this process."""
    return SOCKET_VARIABLE in os.environ


def why_no_keeper() -> str | None:
    """Why no keeper can hold connections on this system; None where one can."""
    if sys.platform != "linux":
        return f"a keeper needs Linux, and this system is {sys.platform}"
    if not hasattr(os, "memfd_create"):
        return "this Python has no `os.memfd_create`"
    try:
        os.close(os.memfd_create("llmactors-try"))
        is_counted = counts_bytes()
    except OSError as error:
        return f"the kernel refuses what a keeper needs: {error.strerror}"
    return None if is_counted else "the kernel does not tell how many bytes of a connection were written"


def become_keeper(settings: Settings, listening: ListeningSocket) -> NoReturn:
    """Turns this process into the keeper of a gateway with the same command line. The keeper has the same pid."""
    capacity = Capacity()
    os.set_inheritable(listening.socket.fileno(), True)
    environ = {**os.environ}
    if settings.name is None:
        # All its gateways have one name, as one gateway has that is not restarted.
        environ["LLMACTORS_NAME"] = name_of_process(Role.GATEWAY, socket.gethostname(), os.getpid())
    keeper = [
        *(sys.executable, "-S", "-E", _PROGRAM),
        str(listening.socket.fileno()),
        listening.url,
        str(capacity.most + capacity.reserve + _ABOVE_LIMIT),
        str(settings.standby_s),
        str(settings.frozen_s),
        "json" if logs_are_json(settings) else "text",
    ]
    gateway = ends_with_this_process([sys.executable, *sys.orig_argv[1:]])
    sys.stdout.flush()
    os.execve(sys.executable, [*keeper, *gateway], environ)  # noqa: S606 - our own program


def running_keepers() -> Iterator[RunningKeeper]:
    """The keepers of this machine that this user may see."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = os.fsdecode((folder / "cmdline").read_bytes()).split("\0")
        except OSError:
            continue  # the process has ended
        if len(words) > 5 and words[1:3] == ["-S", "-E"] and words[3].endswith("/llmactors/keeper"):
            status = status_of(int(folder.name))
            if status is not None:
                yield RunningKeeper(int(folder.name), words[5], status)
