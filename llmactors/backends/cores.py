"""How many cores this process may use: those of its affinity, and no more than the quota of its control groups."""

import math
import os
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """The number of cores, at least 1. A quota of 1.5 CPUs counts as 1 core: a thread more would be stopped often.

    `root` is where `proc` and `sys` are; tests give another directory.
    """
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), _quota(root))))


def _quota(root: Path) -> float:
    """The CPUs that the control groups of this process allow; infinite where no group has a quota."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    top, quotas = root / "sys/fs/cgroup", [math.inf]
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            quotas += [_of_version_2(group) for group in _groups(top, path)]
        elif "cpu" in controllers.split(","):
            for mounted in (top / controllers, top / "cpu"):
                quotas += [_of_version_1(group) for group in _groups(mounted, path)]
    return min(quotas)


def _groups(top: Path, path: str) -> list[Path]:
    """The group and all groups above it. Within a container the path may not exist, but `top` is the group."""
    group = top / path.strip("/")
    return [top, group, *(parent for parent in group.parents if top in parent.parents)]


def _of_version_2(group: Path) -> float:
    return _share(*[*_read(group / "cpu.max").split(), "", ""][:2])


def _of_version_1(group: Path) -> float:
    return _share(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float:
    """`quota` of each `period`, both in µs. `max`, -1 and an absent file stand for no quota."""
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return math.inf
    return int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
