"""The figures of a fair order of tenants."""

import pytest

from bench.scenarios.tenants import fairness, out_of_turn

FAIR = [0, 1, 2, 3] * 4
ONE_BY_ONE = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4


def test_turns_of_all_tenants_are_fair() -> None:
    assert fairness(FAIR, 4) == 1.0
    assert out_of_turn(FAIR, 4) == 0


def test_tenants_one_after_the_other_are_not_fair() -> None:
    assert fairness(ONE_BY_ONE, 4) == pytest.approx(0.5)
    assert out_of_turn(ONE_BY_ONE, 4) == 3


def test_order_within_a_round_does_not_matter() -> None:
    assert fairness([3, 1, 0, 2, 1, 2, 3, 0], 4) == 1.0
    assert out_of_turn([3, 1, 0, 2, 1, 2, 3, 0], 4) == 0
