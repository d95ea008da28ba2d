import random

from hypothesis import given
from hypothesis import strategies as st

from llmactors.actors import NO_BACKOFF, Backoff

seconds = st.floats(0.001, 1000.0)
backoffs = st.builds(
    Backoff, first_s=seconds, factor=st.floats(1.0, 1e9), cap_s=seconds, jitter=st.floats(0.0, 1.0), stable_s=seconds
)
streaks = st.integers(0, 100_000)


@given(backoffs, streaks, st.integers())
def test_delay_stays_within_its_jitter(backoff: Backoff, streak: int, seed: int) -> None:
    exact = Backoff(backoff.first_s, backoff.factor, backoff.cap_s, 0.0).delay_s(streak, random.Random(0))
    delay = backoff.delay_s(streak, random.Random(seed))

    assert exact * (1 - backoff.jitter) * 0.999_999 <= delay <= exact * (1 + backoff.jitter) * 1.000_001


@given(backoffs, streaks)
def test_delay_without_jitter_grows_up_to_the_cap(backoff: Backoff, streak: int) -> None:
    exact = Backoff(backoff.first_s, backoff.factor, backoff.cap_s, 0.0)
    earlier, later = (exact.delay_s(number, random.Random(0)) for number in (streak, streak + 1))

    assert 0 < earlier <= later <= backoff.cap_s


@given(backoffs, streaks, st.integers())
def test_same_random_numbers_give_the_same_delay(backoff: Backoff, streak: int, seed: int) -> None:
    assert backoff.delay_s(streak, random.Random(seed)) == backoff.delay_s(streak, random.Random(seed))


def test_first_restart_waits_the_first_delay() -> None:
    assert Backoff(first_s=0.25, jitter=0.0).delay_s(0, random.Random(0)) == 0.25


@given(streaks)
def test_no_backoff_has_no_wait(streak: int) -> None:
    assert NO_BACKOFF.delay_s(streak, random.Random(0)) == 0
