"""Statistics of two servers that are measured by turns. Pure.

The speed of a shared machine may change by a factor of two within minutes, so figures of two servers can only be
compared if they were taken one right after the other. Two such turns are a pair, and each pair has its own ratio.
"""

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import attrs

from bench.results import Spread

RESAMPLES = 2000
_Value = TypeVar("_Value")


def order(pair: int) -> tuple[int, int]:
    """The places of the two servers, 0 and 1, in the order of their turns: 0, 1 in even pairs and 1, 0 in odd ones.

    A machine that slows down steadily favours the server that is measured first, so each is first in half of the pairs.
    """
    return (0, 1) if pair % 2 == 0 else (1, 0)


def interval(
    rounds: Sequence[Sequence[_Value]], statistic: Callable[[Sequence[_Value]], float], rng: random.Random
) -> tuple[float, float]:
    """The interval in which `statistic` lies with 95 % confidence, by a bootstrap in two stages.

    Values of one round come from the same processes and are therefore alike, so each resample draws rounds first, and
    values from each of these rounds then. No round may be empty.
    """
    found = []
    for _ in range(RESAMPLES):
        drawn = [rng.choices(values, k=len(values)) for values in rng.choices(rounds, k=len(rounds))]
        found.append(statistic([value for values in drawn for value in values]))
    found.sort()
    return found[round(0.025 * RESAMPLES)], found[round(0.975 * RESAMPLES) - 1]


@attrs.frozen
class PairedFigure:
    """One figure of two servers over all pairs of turns."""

    before: float
    """The median of the first server."""
    after: float
    """The median of the second server."""
    ratio: Spread
    """The ratios of the pairs, second server to first."""
    interval: tuple[float, float]
    """Where the median of the ratios lies with 95 % confidence."""
    pairs: int

    @classmethod
    def of(cls, rounds: Sequence[Sequence[tuple[float, float]]]) -> "PairedFigure | None":
        """Statistics of the pairs of all rounds; None without a pair.

        A pair needs two positive values to have a ratio, and is left out otherwise.
        """
        positive = [[(before, after) for before, after in pairs if before > 0 and after > 0] for pairs in rounds]
        usable = [pairs for pairs in positive if pairs]
        if not usable:
            return None
        every = [pair for pairs in usable for pair in pairs]
        ratios = [[after / before for before, after in pairs] for pairs in usable]
        return cls(
            before=statistics.median(before for before, _ in every),
            after=statistics.median(after for _, after in every),
            ratio=Spread.of([ratio for each in ratios for ratio in each]),
            interval=interval(ratios, statistics.median, random.Random(0)),
            pairs=len(every),
        )


HEAD = f"{'first':>10} {'second':>10}   ratio: median      95 %          least to most   pairs"


def table(rows: Sequence[tuple[str, PairedFigure | None]]) -> Iterator[str]:
    """The lines of a table with one figure in each row."""
    width = max((len(title) for title, _ in rows), default=0)
    yield f"{'':{width}} {HEAD}"
    for title, figure in rows:
        yield f"{title:{width}} {_cells(figure)}"


def _cells(figure: PairedFigure | None) -> str:
    if figure is None:
        return "not measured"
    low, high = figure.interval
    ratio = figure.ratio
    return (
        f"{figure.before:10,.2f} {figure.after:10,.2f} {ratio.median:15.3f}  "
        f"{low:.3f} to {high:.3f}   {ratio.least:.3f} to {ratio.most:.3f} {figure.pairs:7}"
    )
