"""The times at which requests arrive."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from llmactors.load.arrivals import poisson, ramp

SEEDS = st.integers(0, 2**32)


@given(st.floats(0.1, 10_000), SEEDS)
def test_same_seed_gives_the_same_arrivals_in_order(rate: float, seed: int) -> None:
    times = list(itertools.islice(poisson(rate, seed), 50))
    assert times == list(itertools.islice(poisson(rate, seed), 50))
    assert times == sorted(times)
    assert times[0] > 0
    assert times != list(itertools.islice(poisson(rate, seed + 1), 50))


@given(st.floats(0.1, 10_000), SEEDS)
def test_arrivals_are_a_poisson_process(rate: float, seed: int) -> None:
    """Gaps of a Poisson process have the mean 1/rate, and a deviation as large as the mean."""
    times = [0.0, *itertools.islice(poisson(rate, seed), 4000)]
    gaps = [(later - earlier) * rate for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert 0.88 < mean < 1.12
    assert 0.6 < variance < 1.6


def test_ramp_spreads_the_clients_evenly() -> None:
    assert ramp(4, 2.0) == [0.0, 0.5, 1.0, 1.5]
    assert ramp(3, 0.0) == [0.0, 0.0, 0.0]
