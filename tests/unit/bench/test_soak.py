"""The judgement of a soak: which figures grew, and which answers were wrong."""

import pytest

from bench.soak.growth import WARM_S, Growth, Tolerance, median_slope, warm_up_s
from bench.soak.report import verdict
from bench.soak.requests import text_of
from bench.soak.tally import FAULT_LASTS_S, ServerError, Tally

TOLERANCE = Tolerance(0.05, 1)


def growth(*values: float) -> Growth:
    found = Growth.of([(10.0 * place, value) for place, value in enumerate(values)], TOLERANCE, warm_s=40)
    assert found is not None
    return found


def test_growth_during_the_warm_up_counts_as_flat() -> None:
    found = growth(0, 50, 80, 95, *[100] * 20)
    assert (found.is_flat, found.per_hour, found.first, found.last) == (True, 0, 100, 100)


def test_steady_growth_is_not_flat() -> None:
    found = growth(*[100 + place for place in range(24)])
    assert not found.is_flat
    assert found.per_hour == pytest.approx(360)
    assert found.grown == pytest.approx(19)


def test_peaks_do_not_count_as_growth() -> None:
    found = growth(*[100] * 20, 500, 100, 100, 500)
    assert (found.is_flat, found.most) == (True, 500)


def test_too_few_samples_give_no_growth() -> None:
    assert Growth.of([(0, 1), (10, 2), (20, 3)], TOLERANCE, warm_s=0) is None
    assert median_slope([(0, 1)]) == 0


def test_lost_repeated_and_wrong_tokens_are_told_apart() -> None:
    answer = text_of("a prompt", 4)
    tokens = [f" {word}" for word in answer.split()]
    tally = Tally()
    assert tally.judge_text("right", answer, answer, whole=True)
    assert tally.judge_text("begun", "".join(tokens[:2]), answer, whole=False)
    assert not tally.judge_text("lost", "".join(tokens[:1] + tokens[2:]), answer, whole=True)
    assert not tally.judge_text("repeated", "".join(tokens[:2] + tokens[1:]), answer, whole=True)
    assert not tally.judge_text("wrong", "".join(reversed(tokens)), answer, whole=True)
    assert not tally.judge_text("wrong", text_of("another", 4), answer, whole=True)
    assert (tally.right, tally.lost, tally.repeated, tally.wrong) == (
        {"right": 1, "begun": 1},
        {"lost": 1},
        {"repeated": 1},
        {"wrong": 2},
    )


def test_only_a_503_soon_after_a_fault_is_explained() -> None:
    assert ServerError("kind", 503, "UNAVAILABLE", 1.0).is_explained
    assert not ServerError("kind", 503, "UNAVAILABLE", FAULT_LASTS_S + 1).is_explained
    assert not ServerError("kind", 500, "INTERNAL", 1.0).is_explained
    tally = Tally()
    tally.fault("worker killed")
    tally.refuse("kind", 503, "UNAVAILABLE")
    assert tally.broken == {}
    tally.refuse("kind", 500, "POISONED")
    assert tally.broken == {"unexplained 5xx": 1, "innocents convicted": 1}


def test_short_run_claims_nothing_about_growth() -> None:
    assert verdict(warm_up_s(3 * WARM_S)).endswith("No figure grew.")
    assert verdict(warm_up_s(3 * WARM_S - 3)).endswith("too short to tell whether a figure grew.")
