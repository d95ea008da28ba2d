"""The performance targets of llmactors, and whether they were reached. Pure."""

import math
from collections.abc import Iterator, Mapping

import attrs

from bench.peers.proxies import LITELLM, ROUTER
from bench.servers import ALONE, CLUSTER

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By scenario, server and path of the figure: the median in the unit of the figure."""


@attrs.frozen
class Target:
    """One row of the table of targets: a limit for one figure."""

    scenario: str
    path: str
    about: str
    alone: float | None
    """The limit for llmactors in one process; None: the row is for a cluster only."""
    cluster: float
    """The limit for a gateway and a worker over Redis."""
    at_least: bool = False
    """Whether the limit is a lower one. Otherwise the limit is an upper one."""
    against: str | None = None
    """The server whose figure divides the figure of llmactors; None: the figure is compared as measured."""
    unit: str = ""
    absolute: bool = False
    """Whether the limit holds for the absolute value."""


def _against(
    server: str, scenario: str, path: str, about: str, alone: float, cluster: float, *, at_least: bool = False
) -> Target:
    """A limit for a figure of llmactors, divided by the figure of another server in the same run."""
    return Target(scenario, path, about, alone, cluster, at_least, server, "x")


_CPU = "cpu_us_per_token"
_SHAPES = ("2x2x2", "4x4x1")

TARGETS = (
    # CPU time against a bare endpoint in the same run hardly depends on what else the machine does.
    _against("uvicorn", "saturate", _CPU, "CPU per token against bare uvicorn", 1.25, 2.0),
    _against("uvicorn", "steady", _CPU, "CPU per token against bare uvicorn, 100 streams", 1.25, 2.2),
    *(
        Target("scale", f"{path}_ratio.{shape}", f"CPU per token of {shape} against 1x1x1{load}", None, 1.15, unit="x")
        for path, load in ((_CPU, ""), (f"paced_{_CPU}", ", paced"), (f"grown_{_CPU}", ", grown"))
        for shape in _SHAPES
    ),
    _against("origin", "idle", "added_ttft_s.p50", "TTFT added against the original design, p50", 0.6, 1.0),
    _against("origin", "saturate", "requests_per_s", "requests/s against the original design", 8, 6, at_least=True),
    _against("litserve", "saturate", "requests_per_s", "requests/s against LitServe", 20, 14, at_least=True),
    _against("mosec", "saturate", "requests_per_s", "requests/s against mosec", 4, 2.5, at_least=True),
    _against("origin", "saturate", "latency_s.p99", "p99 latency against the original design", 1 / 4, 1 / 3),
    _against(ROUTER, "proxy", f"paced.{_CPU}", "CPU per token against vllm-router, paced", 2.5, 4),
    _against(LITELLM, "proxy", f"paced.{_CPU}", "CPU per token against LiteLLM, paced", 1 / 12, 1 / 8),
    _against(ROUTER, "proxy", f"saturated.{_CPU}", "CPU per token against vllm-router, saturated", 3, 3),
    Target("proxy", "crowded.token_gap_s.p99", "p99 gap, 200 upstream streams on one core", 30, 30, unit="ms"),
    Target("proxy", "added_s", "added to a short answer of an upstream, p50", 2, 5, unit="ms"),
    _against("origin", "paced", "streams_held", "streams held against the original design", 6, 4, at_least=True),
    Target("idle", "added_ttft_s.p50", "TTFT added over the backend, p50", 3, 6, unit="ms"),
    Target("idle", "added_ttft_s.p99", "TTFT added over the backend, p99", 8, 15, unit="ms"),
    *(
        target
        for n in (1, 4, 8, 16)
        for target in (
            Target("real", f"tokens_ratio.{n}", f"tokens/s of llama.cpp's own, {n} streams", 97, 95, True, unit="%"),
            Target("real", f"added_ttft_s.{n}", f"TTFT added to llama.cpp's own, {n} streams", 5, 10, unit="ms"),
        )
    ),
    Target("overload", "goodput_share", "goodput against capacity, 3x offered", 90, 85, True, unit="%"),
    Target("overload", "refusal_s.p99", "time to refuse, p99", 20, 30, unit="ms"),
    Target("memory", "idle_stream_bytes", "memory of an idle stream", 40, 40, unit="KB"),
    Target("idle_streams", "stream_bytes", "memory of each of many idle streams", 40, 40, unit="KB"),
    Target("tenants", "fairness", "fairness among 100 tenants (Jain's index)", 0.95, 0.95, True),
    Target("memory", "bytes_per_million_tokens", "growth over 1,000,000 tokens", 1, 1, unit="MB", absolute=True),
    Target("growth", "many_to_few", "cost per token at 1,000 streams against 10", 1.2, 1.2, unit="x"),
)


@attrs.frozen
class TargetResult:
    """The value of one server for one target, and whether the value reaches the target."""

    target: Target
    server: str
    value: float | None
    """None: the figure was not measured."""

    @property
    def limit(self) -> float:
        """The limit for this form of llmactors."""
        limit = limit_of(self.target, self.server)
        assert limit is not None
        return limit

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None: the figure was not measured."""
        if self.value is None:
            return None
        value = abs(self.value) if self.target.absolute else self.value
        return value >= self.limit if self.target.at_least else value <= self.limit

    @property
    def word(self) -> str:
        """`reached`, for people."""
        return {True: "reached", False: "MISSED", None: "not measured"}[self.reached]

    def __str__(self) -> str:
        sign = ">=" if self.target.at_least else "<="
        value = "-" if self.value is None else f"{self.value:.3g} {self.target.unit}"
        limit = f"{sign} {self.limit:.3g} {self.target.unit}"
        return f"{self.target.scenario:9} {self.target.about:49} {value:>11} {limit:>12}  {self.word}"


def limit_of(target: Target, server: str) -> float | None:
    """The limit of a target for one form of llmactors; None: the target is not for this form."""
    return target.alone if server == ALONE else target.cluster


def judge(medians: Medians) -> Iterator[TargetResult]:
    """Compare both forms of llmactors with each target of each scenario that was run."""
    for server in (ALONE, CLUSTER):
        for target in TARGETS:
            if target.scenario in medians and limit_of(target, server) is not None:
                yield TargetResult(target, server, _value(medians[target.scenario], target, server))


def _value(measured: Mapping[str, Mapping[str, float]], target: Target, server: str) -> float | None:
    value = measured.get(server, {}).get(target.path)
    if value is None or target.against is None:
        return value
    other = measured.get(target.against, {}).get(target.path)
    if other is None:
        return None
    return value / other if other else math.inf if value else None
