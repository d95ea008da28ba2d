"""What a scenario is, and what it is given to measure with."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs

from bench import client, contestants
from bench.contestants import Serving
from llmactors.load import processes
from llmactors.load.processes import ProcessUsage

Round = dict[str, Any]
"""What one round on one contestant found: figures by name, and whatever else is worth keeping."""


@attrs.frozen
class Figure:
    """One number of a round."""

    path: str
    """Where it stands, as in `latency_s.p99`."""
    title: str
    unit: str = ""
    scale: float = 1.0
    """What to multiply with for this unit."""
    drawn: bool = False

    def of(self, found: Round) -> float | None:
        """In its unit; None where the round has none."""
        value: Any = found
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value * self.scale if isinstance(value, int | float) else None


@attrs.frozen
class Curve:
    """How something grows, as points of a round: `[[x, y], …]` at `path`."""

    path: str
    x: str
    y: str
    limit: float | None = None
    """Drawn as a line across."""
    logarithmic: bool = True


@attrs.frozen
class Bench:
    """How to measure here."""

    quick: bool = False
    client_core: int | None = None
    """Where the load client runs. The servers may use all cores, whoever they are."""
    envs: Path | None = None

    def serving(self, name: str, model: str, **more: Any) -> AbstractContextManager[Serving]:
        """See `contestants.serving`."""
        return contestants.serving(name, model, envs=self.envs, **more)

    def load(self, serving: Serving, **options: Any) -> Round:
        """One run of the load client, and what it cost the servers. See `client.load` for the options."""
        before = serving.usage()
        found = client.load(serving.url, key=serving.key, core=self.client_core, **options)
        return found | costs(before, serving.usage(), found)


def costs(before: Mapping[str, ProcessUsage], after: Mapping[str, ProcessUsage], found: Round) -> Round:
    """What a load cost all processes of the servers together, and each part of a cluster. Pure."""
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
    *(Figure(f"parts_cpu_us_per_token.{part}", f"of it {part}", "us") for part in ("gateway", "worker", "redis")),
    Figure("waited", "server threads waited for a core", "%", 100.0),
    Figure("client.busy", "load client busy", "%", 100.0),
    Figure("resident_bytes", "server memory", "MiB", 2.0**-20),
)
"""What every load tells beside its own figures."""


@attrs.frozen
class Scenario:
    """One kind of measurement."""

    name: str
    about: str
    """What is served and what is asked of it, for the report."""
    contestants: tuple[str, ...]
    figures: tuple[Figure, ...]
    measure: Callable[[Bench, str, list[Round]], Round]
    """One round on the contestant of this name; the list has its rounds before."""
    rounds: int = 3
    curve: Curve | None = None
