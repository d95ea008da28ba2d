"""A process plans with no more memory than the machine and its control groups allow."""

import os
from pathlib import Path

import pytest

from llmactors.backends.memory import usable_memory

GIB = 2**30


@pytest.mark.parametrize(
    ("files", "memory_bytes"),
    [
        ({}, 16 * GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 16 * GIB),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": f"{3 * GIB}\n"}, 3 * GIB),
        ({"proc/self/cgroup": "3:memory:/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        ({"proc/self/cgroup": "3:memory:/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63}\n"}, 16 * GIB),
    ],
)
def test_memory_of_the_control_group_is_respected(
    files: dict[str, str], memory_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4 * 2**20}.__getitem__)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_memory(tmp_path) == memory_bytes
