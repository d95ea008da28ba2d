"""The ports and processes of this machine. Linux only."""

import socket
from pathlib import Path


def free_port(highest: int = 65535) -> int:
    """A TCP port on 127.0.0.1 that nobody uses now, and that is not above `highest`."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= highest:
            return port


def is_alive(pid: int) -> bool:
    """Whether a process exists and has not ended. A zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The pids of the children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
