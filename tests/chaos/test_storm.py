"""Two faults at a time: a short storm of the kind that `python -m tests.chaos.storm` runs for longer."""

import itertools
from collections import Counter

import pytest

from tests.chaos.storm.rounds import rounds
from tests.chaos.storm.run import storm
from tests.chaos.storm.table import lines_of

WEIGHTS = (3.0, 1.0, 0.1)


def test_rounds_follow_from_the_seed() -> None:
    """Two different faults strike in each round, and each fault has its turn."""
    drawn = list(itertools.islice(rounds(WEIGHTS, "7"), 300))
    assert drawn == list(itertools.islice(rounds(WEIGHTS, "7"), 300))
    assert drawn != list(itertools.islice(rounds(WEIGHTS, "8"), 300))
    assert all(first.which != second.which for first, second in drawn)
    count = Counter(strike.which for pair in drawn for strike in pair)
    assert count[0] > count[1] > count[2] > 0


@pytest.mark.chaos
@pytest.mark.integration
@pytest.mark.timeout(240)
async def test_short_storm_loses_nothing() -> None:
    outcome = await storm("kept", faults=2, seed=18, binary=None, says=False)
    assert outcome.is_right, "\n".join(lines_of(outcome))
    assert outcome.faults >= 2
    assert outcome.report.accepted >= 40
