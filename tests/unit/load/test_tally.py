"""The counts and distributions over many answers."""

import pytest

from llmactors.load import tally as module
from llmactors.load.tally import Tally
from llmactors.load.token_times import TokenTimes


def test_gaps_of_tokens_and_of_reads_are_told_apart() -> None:
    tally = Tally()
    tally.succeed(TokenTimes(4, [1.0, 1.0, 1.5, 2.0], [2, 1, 1]), begun=0.0, ended=2.5, at=2.5)
    assert (tally.correct, tally.tokens, tally.ttft.maximum, tally.latency.maximum) == (1, 4, 1.0, 2.5)
    assert (tally.token_gap.count, tally.token_gap.minimum, tally.token_gap.maximum) == (3, 0.0, 0.5)
    assert (tally.read_gap.count, tally.read_gap.minimum) == (2, 0.5)
    assert tally.per_chunk.summary()["max"] == 2


def test_steady_state_is_while_all_streams_run() -> None:
    tally = Tally()
    tally.succeed(TokenTimes(4, [0.0, 1.0, 2.0, 9.0], []), begun=0.0, ended=9.0, at=9.0)
    tally.succeed(TokenTimes(4, [1.0, 2.0, 3.5, 4.0], []), begun=0.0, ended=4.0, at=4.0)
    steady = tally.steady_gap()
    assert (steady.count, steady.total) == (4, 4.0)


def test_streams_that_never_overlap_have_no_steady_state() -> None:
    tally = Tally()
    tally.succeed(TokenTimes(2, [0.0, 1.0], []), begun=0.0, ended=1.0, at=1.0)
    tally.succeed(TokenTimes(2, [2.0, 3.0], []), begun=1.0, ended=3.0, at=3.0)
    assert tally.steady_gap().summary() == {}


def test_token_times_are_dropped_above_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ARRIVALS", 5)
    tally = Tally()
    for _ in range(3):
        tally.succeed(TokenTimes(2, [0.0, 1.0], []), begun=0.0, ended=1.0, at=1.0)
    assert tally.steady_gap().summary() == {}
    assert tally.token_gap.count == 3


def test_failures_are_counted_by_class_code_and_second() -> None:
    tally = Tally()
    for number in range(9):
        tally.fail("http_429", f"request {number}", at=0.5 + number, code="OVERLOADED")
    tally.fail("cut", "x" * 1000, at=0.7)
    assert tally.failed == 10
    assert (dict(tally.errors), dict(tally.codes)) == ({"http_429": 9, "cut": 1}, {"http_429 OVERLOADED": 9})
    assert len(tally.examples) == 5
    assert tally.timeline()[0] == {"second": 0, "http_429": 1, "cut": 1}
