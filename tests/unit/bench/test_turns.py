"""The statistics of two servers that are measured by turns."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.turns import PairedFigure, interval, order, table

positive = st.floats(0.001, 1000)
rounds_of_pairs = st.lists(st.lists(st.tuples(positive, positive), min_size=1, max_size=4), min_size=1, max_size=4)


def test_each_server_is_first_in_half_of_the_pairs() -> None:
    assert [order(pair) for pair in range(4)] == [(0, 1), (1, 0), (0, 1), (1, 0)]


def test_ratios_survive_a_machine_that_changes_its_speed() -> None:
    speeds = [1.0, 2.0, 0.5, 1.7]
    found = PairedFigure.of([[(10 * speed, 11 * speed) for speed in speeds]])
    assert found is not None
    assert found.ratio.median == pytest.approx(1.1)
    assert found.interval == pytest.approx((1.1, 1.1))
    assert found.before == pytest.approx(13.5)
    assert found.pairs == 4


@given(rounds=rounds_of_pairs)
def test_interval_lies_within_the_ratios(rounds: list[list[tuple[float, float]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.turns.RESAMPLES", 100)
        found = PairedFigure.of(rounds)
    assert found is not None
    low, high = found.interval
    assert found.ratio.least <= low <= high <= found.ratio.most
    assert found.ratio.least <= found.ratio.median <= found.ratio.most
    assert math.isfinite(found.ratio.most)


def test_pair_without_two_positive_values_is_left_out() -> None:
    found = PairedFigure.of([[(0.0, 1.0), (2.0, 3.0)], [(1.0, -1.0)]])
    assert found is not None
    assert (found.pairs, found.ratio.median) == (1, 1.5)
    assert PairedFigure.of([[(0.0, 1.0)]]) is None
    assert PairedFigure.of([]) is None


def test_interval_widens_if_rounds_differ_from_one_another() -> None:
    alike = [[0.9, 1.1], [0.9, 1.1], [0.9, 1.1]]
    apart = [[0.9, 0.9], [1.0, 1.0], [1.1, 1.1]]
    narrow = interval([[1.0, 1.0]] * 3, statistics.median, random.Random(1))
    assert narrow == (1.0, 1.0)
    # Each round has one value only, so the interval has its width from the draw of the rounds.
    assert interval(apart, statistics.median, random.Random(1)) == (0.9, 1.1)
    assert interval(alike, statistics.fmean, random.Random(1)) != (0.9, 1.1)


def test_table_shows_medians_ratios_and_missing_figures() -> None:
    head, paced, missing = table([("paced", PairedFigure.of([[(20.0, 22.0), (40.0, 40.0)]])), ("idle", None)])
    assert head.split() == ["first", "second", "ratio:", "median", "95", "%", "least", "to", "most", "pairs"]
    assert paced.split() == ["paced", "30.00", "31.00", "1.050", "1.000", "to", "1.100", "1.000", "to", "1.100", "2"]
    assert missing.split() == ["idle", "not", "measured"]
