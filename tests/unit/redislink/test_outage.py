"""What is said of an outage, and when."""

import pytest

from llmactors.redislink.outage import Outage, Problem, Said

FULL = Problem("OOM", "OOM command not allowed")
LOST = Problem("connection", "connection lost")


def test_outage_of_two_links_is_said_once() -> None:
    outage = Outage()
    assert outage.note("ledger", None, 0.0) is None
    assert outage.note("ledger", FULL, 1.0) is Said.BEGAN
    assert outage.note("directory", LOST, 1.5) is None
    assert outage.note("ledger", None, 2.0) is None
    assert outage.note("directory", None, 10.3) is Said.ENDED
    assert outage.lasted_s(10.3) == pytest.approx(9.3)
    assert outage.total_s(99.0) == pytest.approx(9.3)
    assert outage.began == {"OOM": 1}


def test_long_outage_is_said_again_after_twenty_seconds() -> None:
    outage = Outage()
    said = [outage.note("ledger", LOST, float(now)) for now in range(45)]
    assert {now: each for now, each in enumerate(said) if each} == {0: Said.BEGAN, 20: Said.GOES_ON, 40: Said.GOES_ON}


def test_outages_in_quick_succession_are_counted_and_not_said() -> None:
    outage = Outage()
    said = [outage.note("ledger", LOST if now % 2 == 0 else None, float(now)) for now in range(10)]
    assert [each for each in said if each] == [Said.BEGAN, Said.ENDED]
    assert outage.began == {"connection": 5}
    assert outage.note("ledger", LOST, 10.0) is Said.BEGAN


def test_outage_that_follows_quickly_and_lasts_is_said() -> None:
    outage = Outage()
    outage.note("ledger", LOST, 0.0)
    outage.note("ledger", None, 1.0)
    assert outage.note("ledger", LOST, 2.0) is None
    assert outage.note("ledger", LOST, 10.5) is Said.BEGAN
    assert outage.note("ledger", None, 11.0) is Said.ENDED
