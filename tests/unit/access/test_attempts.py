"""The number of wrong keys that an address may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.access.attempts import LONGEST_LINE_S, MAX_DIFFERENT, TURNS_PER_S, FailedAttempts
from llmactors.http.addresses import network_of


def test_address_at_its_limit_waits_for_the_windows_end() -> None:
    attempts = FailedAttempts(3, window_s=60.0)
    for now in (0.0, 10.0):
        attempts.note("10.0.0.1", f"{now}", now)
        assert attempts.wait_s("10.0.0.1", now) == 0
    attempts.note("10.0.0.1", "c", 20.0)
    assert attempts.wait_s("10.0.0.1", 20.0) == 40.0
    assert attempts.wait_s("10.0.0.2", 20.0) == 0
    assert attempts.wait_s("10.0.0.1", 60.0) == 0
    attempts.note("10.0.0.1", "d", 61.0)
    assert attempts.wait_s("10.0.0.1", 61.0) == 0


@given(st.lists(st.floats(0, 30), max_size=100), st.integers(1, 5))
def test_address_that_waits_never_exceeds_the_limit(pauses: list[float], limit: int) -> None:
    attempts, now = FailedAttempts(limit, window_s=60.0), 0.0
    failures: list[float] = []
    for pause in pauses:
        now += pause
        if not attempts.wait_s("a", now):
            attempts.note("a", f"{len(failures)}", now)
            failures.append(now)
    windows: list[list[float]] = []
    for failure in failures:
        if not windows or failure >= windows[-1][0] + 60.0:
            windows.append([])
        windows[-1].append(failure)
    assert all(len(window) <= limit for window in windows)


def test_address_with_the_oldest_failure_is_forgotten_first() -> None:
    attempts = FailedAttempts(1, max_addresses=3)
    for number in range(1000):
        attempts.note(f"10.0.{number // 256}.{number % 256}", "a", 0.0)
        assert len(attempts._failures) <= 3
    assert attempts.wait_s("10.0.3.231", 1.0) > 0
    assert attempts.wait_s("10.0.0.0", 1.0) == 0


def test_limit_of_0_counts_no_attempts() -> None:
    attempts = FailedAttempts(0)
    for number in range(100):
        attempts.note("a", f"{number}", 0.0)
    assert attempts.wait_s("a", 0.0) == 0
    assert not attempts._failures


def test_same_wrong_key_again_makes_nobody_take_turns() -> None:
    attempts = FailedAttempts(2)
    for now in range(50):
        attempts.note("a", "old", float(now))
    assert attempts.wait_s("a", 49.0) == 11.0
    assert [attempts.turn_s("a", 49.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    attempts.note("a", "other", 49.0)
    assert [attempts.turn_s("a", 49.0) for _ in range(2)] == pytest.approx([0.0, 1 / TURNS_PER_S])


@pytest.mark.parametrize(("limit", "kept"), [(3, 3), (10**9, MAX_DIFFERENT)])
def test_remembered_keys_of_an_address_are_bounded(limit: int, kept: int) -> None:
    attempts = FailedAttempts(limit)
    for number in range(1000):
        attempts.note("a", f"{number}", 0.0)
    assert [len(each.digests) for each in attempts._failures.values()] == [kept]


def test_turns_of_an_address_with_failures_are_spaced() -> None:
    attempts = FailedAttempts(1)
    assert [attempts.turn_s("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    attempts.note("a", "wrong", 0.0)
    turns = [attempts.turn_s("a", 1.0) for _ in range(100)]
    taken = [turn for turn in turns if turn is not None]
    assert taken == pytest.approx([number / TURNS_PER_S for number in range(len(taken))])
    assert taken[-1] <= LONGEST_LINE_S
    assert turns[len(taken) :] == [None] * (100 - len(taken))
    assert attempts.turn_s("b", 1.0) == 0.0
    assert attempts.turn_s("a", 60.0) == 0.0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_ipv6_network_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network
