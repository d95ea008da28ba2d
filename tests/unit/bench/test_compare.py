"""The comparison of two revisions: the number of pairs, the report and the JSON."""

from pathlib import Path

import pytest

from bench.compare import estimate_s, next_end_s, pairs_of
from bench.comparison import Comparison, as_json, report
from bench.revisions import Revision
from bench.servers import ALONE, CLUSTER
from bench.workloads import WORKLOADS, figures_of

REVISIONS = (Revision("v1", "abc The first", Path("/a")), Revision("working tree", "def The second", Path("/b")))
PACED = WORKLOADS["paced"]


def turn(cpu_us: float) -> dict[str, object]:
    return {"cpu_us_per_token": cpu_us, "token_gap_s": {"p99": 0.025}}


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=list(WORKLOADS))
@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.0, 30.0])
def test_round_has_an_even_number_of_pairs(workload: object, seconds: float) -> None:
    pairs = pairs_of(workload, seconds)  # type: ignore[arg-type]
    assert pairs >= 2
    assert pairs % 2 == 0


def test_parts_of_a_cluster_are_shown_over_redis_only() -> None:
    paths = [figure.path for figure in figures_of(PACED, parts=False)]
    assert not any(path.startswith("parts") for path in paths)
    assert set(paths) < {figure.path for figure in figures_of(PACED, parts=True)}


def test_report_names_revisions_ratios_and_failures() -> None:
    measured = Comparison(ALONE, PACED, rounds=[[(turn(20.0), turn(21.0)), (turn(40.0), turn(42.0))]])
    failed = Comparison(CLUSTER, PACED, errors=["round 1: the worker did not start"])
    text = report([measured, failed], REVISIONS)
    assert "paced: server CPU per token, us" in text
    assert " 1.050 " in text
    assert "v1 (abc The first)" in text
    assert "working tree (def The second)" in text
    assert "paced: round 1: the worker did not start" in text
    assert "not measured" in text


def test_json_has_every_pair_and_the_statistics() -> None:
    measured = Comparison(ALONE, PACED, rounds=[[(turn(20.0), turn(30.0))]])
    [found] = as_json([measured], REVISIONS, {"cores": 2})["comparisons"]
    assert found["figures"]["cpu_us_per_token"]["ratio"]["median"] == 1.5
    assert found["rounds"] == measured.rounds


def test_next_round_is_expected_to_take_the_mean_time() -> None:
    assert next_end_s(100.0, 0) == 0.0
    assert next_end_s(100.0, 1) == 200.0
    assert next_end_s(300.0, 3) == 400.0


def test_estimate_grows_with_rounds_and_seconds() -> None:
    both = [Comparison(form, workload) for form in (ALONE, CLUSTER) for workload in WORKLOADS.values()]
    assert estimate_s(both, 2, 1.0) < 120
    assert estimate_s(both, 6, 2.0) < 360
    assert estimate_s(both, 12, 2.0) == pytest.approx(2 * estimate_s(both, 6, 2.0))
