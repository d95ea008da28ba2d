"""A scenario, its figures, and the tools that a scenario measures with."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs

from bench import client, servers
from bench.servers import RunningServer
from llmactors.load import processes
from llmactors.load.processes import ProcessUsage

Round = dict[str, Any]
"""The result of one round on one server: figures by name, and other facts for the report."""


@attrs.frozen
class Figure:
    """One number of a round."""

    path: str
    """The keys that lead to the number in a round, as in `latency_s.p99`."""
    title: str
    unit: str = ""
    scale: float = 1.0
    """The factor that converts the number of the round to `unit`."""
    drawn: bool = False
    """Whether the picture of the scenario shows the figure."""

    def of(self, found: Round) -> float | None:
        """The number in its unit, or None if the round has no such number."""
        value: Any = found
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value * self.scale if isinstance(value, int | float) else None


@attrs.frozen
class Curve:
    """One quantity as a function of another: the points `[[x, y], …]` at `path` of a round."""

    path: str
    x: str
    y: str
    limit: float | None = None
    """Drawn as a horizontal line."""
    logarithmic: bool = True


@attrs.frozen
class Bench:
    """How to measure on this machine."""

    quick: bool = False
    client_core: int | None = None
    """The core on which the load client runs. All servers may use all cores."""
    envs: Path | None = None
    """The directory of the Python environments of the peers; None: a directory below the user's cache directory."""
    sizes: Mapping[str, int] = attrs.field(factory=dict)
    """Sizes that differ from those of the scenarios, as in `crowd.clients`."""

    def size(self, scenario: "Scenario", name: str) -> int:
        """The size `name` of a scenario, as the user or else the scenario says."""
        return self.sizes.get(f"{scenario.name}.{name}", scenario.sizes[name])

    def run_server(self, name: str, model: str, **more: Any) -> AbstractContextManager[RunningServer]:
        """Start a server, see `servers.run_server`."""
        return servers.run_server(name, model, envs=self.envs, **more)

    def load(self, server: RunningServer, **options: Any) -> Round:
        """Run the load client once, and add what the run cost the server. See `client.load` for the options."""
        before = server.usage()
        found = client.load(server.url, key=server.key, core=self.client_core, **options)
        return found | costs(before, server.usage(), found)


def costs(before: Mapping[str, ProcessUsage], after: Mapping[str, ProcessUsage], found: Round) -> Round:
    """What a load cost all processes of a server together, and each part of a cluster. Pure."""
    result: Round = processes.costs(
        ProcessUsage.total(before.values()),
        ProcessUsage.total(after.values()),
        seconds=found["seconds"],
        correct=found["correct"],
        tokens=found["tokens"],
    )
    if len(after) > 1:
        tokens = max(1, found["tokens"])
        result["parts_cpu_us_per_token"] = {
            name: 1e6 * (after[name].cpu_s - before[name].cpu_s) / tokens for name in after
        }
    return result


COSTS = (
    Figure("failed", "requests that failed"),
    Figure("cpu_us_per_token", "server CPU per token", "us", drawn=True),
    Figure("cpu_ms_per_request", "server CPU per request", "ms"),
    *(
        Figure(f"parts_cpu_us_per_token.{part}", f"server CPU per token, {part}", "us")
        for part in ("gateway", "worker", "redis")
    ),
    Figure("waited", "server threads waited for a core", "%", 100.0),
    Figure("client.busy", "load client busy", "%", 100.0),
    Figure("resident_bytes", "server memory", "MiB", 2.0**-20),
)
"""Figures of every load, besides those of the scenario."""


@attrs.frozen
class Scenario:
    """One kind of measurement."""

    name: str
    about: str
    """What is served and what the load is, for the report."""
    servers: tuple[str, ...]
    figures: tuple[Figure, ...]
    measure: Callable[[Bench, str, list[Round]], Round]
    """Measures one round on the server of a name. The list has the earlier rounds of that server."""
    rounds: int = 3
    curve: Curve | None = None
    sizes: Mapping[str, int] = attrs.field(factory=dict)
    """The numbers that `--size` changes, as in the number of streams."""
