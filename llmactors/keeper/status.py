"""How other processes see a keeper: a memfd of the keeper with one line of text. It needs no file and no port."""

import contextlib
import os
from typing import NamedTuple

NAME = "llmactors-keeper"
_BYTES = 1024


class KeeperStatus(NamedTuple):
    """What the keeper says of itself."""

    active: int
    """The pid of the gateway that serves; 0 while a gateway takes over."""
    standby: int
    """The pid of the gateway that is warm; 0 for none."""
    takeovers: int
    upgrades: int
    """How many upgrades are over."""
    outcome: str
    """How the last of them ended."""


def show_status(memory: int, status: KeeperStatus) -> None:
    """Writes the status to the memfd."""
    os.pwrite(memory, " ".join(map(str, status)).encode()[:_BYTES].ljust(_BYTES), 0)


def status_of(pid: int) -> KeeperStatus | None:
    """The status of a keeper; None for a process that is no keeper, or is one of another user."""
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - a keeper imports this module, and `pathlib` takes memory
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{NAME} "):  # noqa: PTH115 - as above
                memory = os.open(f"{folder}/{name}", os.O_RDONLY)
                try:
                    active, standby, takeovers, upgrades, outcome = os.pread(memory, _BYTES, 0).decode().split(" ", 4)
                    return KeeperStatus(int(active), int(standby), int(takeovers), int(upgrades), outcome.strip())
                except ValueError:
                    return None  # it has not said anything yet
                finally:
                    os.close(memory)
    return None
