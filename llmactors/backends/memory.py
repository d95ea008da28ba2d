"""How much memory this process may use: that of the machine, and no more than the limits of its control groups."""

import os
from pathlib import Path

from llmactors.backends.control_groups import control_groups, read_file


def usable_memory(root: Path = Path("/")) -> int:
    """The memory in bytes. `root` is where `proc` and `sys` are; tests give another directory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    limits = [read_file(group / names[version]) for version, group in control_groups(root, "memory")]
    # `max` and an absent file stand for no limit.
    return min(machine, *(int(limit) for limit in limits if limit.isdigit() and int(limit)), machine)
