"""Read the figures of processes and of Redis while they run."""

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import psutil
import redis
import trio

from bench.soak.growth import Point, Tolerance
from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import HttpClientError

EVERY_S = 10.0
_ANSWER_S = 5.0
_TASKS = re.compile(rb"^llmactors_tasks ([0-9.]+)$", re.MULTILINE)


@attrs.frozen
class Figure:
    """One thing that is measured, and how much of its growth still counts as flat."""

    title: str
    unit: str
    scale: float
    tolerance: Tolerance


MB = 1e6
FIGURES = {
    "resident": Figure("memory", "MB", MB, Tolerance(0.03, 2 * MB)),
    "files": Figure("open files", "", 1, Tolerance(0.05, 3)),
    "threads": Figure("threads", "", 1, Tolerance(0.0, 1)),
    "tasks": Figure("tasks", "", 1, Tolerance(0.05, 5)),
    "keys": Figure("keys", "", 1, Tolerance(0.05, 20)),
    "used_memory": Figure("used memory", "MB", MB, Tolerance(0.05, 1 * MB)),
    "clients": Figure("connections", "", 1, Tolerance(0.0, 2)),
    # The server rewrites its file when the file has doubled, so the size goes up and down between bounds.
    "aof": Figure("append-only file", "MB", MB, Tolerance(0.0, 34 * MB)),
}


@attrs.define
class Samples:
    """The figures of one form since the start of its load: by part and figure, the values in order of time."""

    points: dict[tuple[str, str], list[Point]] = attrs.field(factory=dict)
    _began: float = attrs.field(factory=time.monotonic)

    def add(self, part: str, values: Mapping[str, float]) -> None:
        """Record the values of `part` now."""
        now = time.monotonic() - self._began
        for name, value in values.items():
            self.points.setdefault((part, name), []).append((now, value))


def process_figures(pid: int) -> dict[str, float]:
    """Memory, open files and threads of a process; empty if the process has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return {
            "resident": process.memory_info().rss,
            "files": process.num_fds(),
            "threads": process.num_threads(),
        }
    return {}


async def task_figures(url: str) -> dict[str, float]:
    """The number of Trio tasks of the node at `url`; empty if the node does not answer."""
    client = HttpClient(url, settings=ClientSettings(max_idle=0))
    with contextlib.suppress(HttpClientError, trio.TooSlowError), trio.fail_after(_ANSWER_S):
        answer = await client.fetch("GET", "/metrics")
        if found := _TASKS.search(answer.body):
            return {"tasks": float(found[1])}
    return {}


async def redis_figures(connect: Callable[[], "redis.Redis"]) -> dict[str, float]:
    """Keys, memory, connections and the size of the append-only file; empty while the server is away."""

    def read() -> dict[str, float]:
        with contextlib.suppress(redis.RedisError), connect() as client:
            info: Any = client.info("everything")
            return {
                "keys": info.get("db0", {}).get("keys", 0),
                "used_memory": info["used_memory"],
                "clients": info["connected_clients"],
                "aof": info.get("aof_current_size", 0),
            }
        return {}

    return await trio.to_thread.run_sync(read)
