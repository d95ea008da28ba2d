"""The control groups of this process, whose files say what the process may use."""

from collections.abc import Iterator
from pathlib import Path


def control_groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """The version and the folder of each group that may bound the process with this controller, in no special order.

    `root` is where `proc` and `sys` are. A folder need not exist.
    """
    top = root / "sys/fs/cgroup"
    for line in read_file(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            yield from ((2, group) for group in _groups(top, path))
        elif controller in controllers.split(","):
            for mounted in (top / controllers, top / controller):
                yield from ((1, group) for group in _groups(mounted, path))


def read_file(file: Path) -> str:
    """The text of a file, without the blanks around it; empty where there is no such file."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _groups(top: Path, path: str) -> list[Path]:
    """The group and all groups above it. Within a container the path may not exist, but `top` is the group."""
    group = top / path.strip("/")
    return [top, group, *(parent for parent in group.parents if top in parent.parents)]
