"""The model of a cluster's costs, and the plans that are made with it."""

import attrs
import pytest

from bench.sizing.fit import Run, fitted
from bench.sizing.measure import FITTED
from bench.sizing.model import PARTS, Cluster, Costs, Load, StepCosts, events, spent, us_per_token
from bench.sizing.plan import Bounds, cells, plan

COSTS: StepCosts = {
    "gateway": Costs(processes=15_000, appends=0, pushes=60, tokens=12, requests=700),
    "worker": Costs(processes=8_000, appends=120, pushes=0, tokens=5, requests=400),
    "redis": Costs(processes=2_000, appends=90, pushes=10, tokens=7, requests=300),
}
LOAD = Load(streams=8_000, tokens_per_s=20, tokens=500)


def test_costs_are_found_from_the_runs_that_are_measured() -> None:
    runs = []
    for cluster, loads in FITTED.items():
        for load in (None, *(Load(streams, 25, tokens) for streams, tokens in loads)):
            run = Run(cluster, load, 4.0, {})
            runs.append(attrs.evolve(run, cpu_s={part: spent(COSTS[part], run.events(part)) / 1e6 for part in PARTS}))
    found = fitted(runs)
    for part in PARTS:
        assert attrs.astuple(found[part]) == pytest.approx(attrs.astuple(COSTS[part]), rel=1e-6, abs=1e-6)


def test_no_cost_is_below_zero() -> None:
    loads = [None, Load(24, 25, 100), Load(192, 25, 100), Load(192, 25, 10)]
    runs = [Run(Cluster(1, 1), load, 4.0, dict.fromkeys(PARTS, 1.0)) for load in loads]
    assert all(cost >= 0 for costs in fitted(runs).values() for cost in attrs.astuple(costs))


def test_many_processes_share_the_streams_of_a_step() -> None:
    few, many = (events(Cluster(count, count), LOAD, "redis") for count in (1, 100))
    assert few.appends == few.pushes == 20
    assert many.appends == 100 * 20
    assert many.pushes == pytest.approx(100 * 100 * 20 * (1 - 0.99**80))
    assert few.tokens == many.tokens == 8_000 * 20


def test_no_process_of_a_plan_is_too_busy() -> None:
    made = plan(COSTS, LOAD, Bounds(busy=0.5))
    assert made.busy["gateway"] <= 0.5 * made.cluster.gateways
    assert made.busy["redis"] <= 0.5 * made.cluster.shards
    assert made.cluster.workers == 32
    assert made.cores == pytest.approx(us_per_token(COSTS, made.cluster, LOAD) * 8_000 * 20 / 1e6)


def test_number_of_clusters_needs_the_fewest_cores() -> None:
    count, each = cells(COSTS, attrs.evolve(LOAD, streams=100_000), Bounds())
    assert count * each.load.streams >= 100_000
    for other in (count // 2, count * 2):
        plan_of_other = plan(COSTS, attrs.evolve(LOAD, streams=-(-100_000 // other)), Bounds())
        assert count * each.cores <= other * plan_of_other.cores


def test_a_load_for_which_no_number_is_enough_is_refused() -> None:
    costs = {**COSTS, "redis": attrs.evolve(COSTS["redis"], processes=1e6)}
    with pytest.raises(ValueError, match="no cluster is enough for 8000 streams"):
        plan(costs, LOAD, Bounds())
