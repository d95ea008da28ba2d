"""How many cores this process may use: those of its affinity, and no more than the quota of its control groups."""

import math
import os
from pathlib import Path

from llmactors.backends.control_groups import control_groups, read_file


def usable_cores(root: Path = Path("/")) -> int:
    """The number of cores, at least 1. A quota of 1.5 CPUs counts as 1 core: a thread more would be stopped often.

    `root` is where `proc` and `sys` are; tests give another directory.
    """
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), _quota(root))))


def _quota(root: Path) -> float:
    """The CPUs that the control groups of this process allow; infinite where no group has a quota."""
    return min(
        (
            _of_version_2(group) if version == 2 else _of_version_1(group)
            for version, group in control_groups(root, "cpu")
        ),
        default=math.inf,
    )


def _of_version_2(group: Path) -> float:
    return _share(*[*read_file(group / "cpu.max").split(), "", ""][:2])


def _of_version_1(group: Path) -> float:
    return _share(read_file(group / "cpu.cfs_quota_us"), read_file(group / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> float:
    """`quota` of each `period`, both in µs. `max`, -1 and an absent file stand for no quota."""
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return math.inf
    return int(quota) / int(period)
