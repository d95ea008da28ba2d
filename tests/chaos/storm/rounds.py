"""Which two faults strike in a round, from a seed. Pure."""

import random
from collections.abc import Iterator, Sequence

import attrs

_LATEST_S = 0.6


@attrs.frozen
class Strike:
    """One fault of a round."""

    which: int
    """The place of the fault in the list of all faults."""
    after_s: float
    """How long after the begin of the round the fault strikes."""
    seed: int
    """The choices of the fault follow from this seed."""


def rounds(weights: Sequence[float], seed: str) -> Iterator[tuple[Strike, Strike]]:
    """Two different faults for each round, without end. The weights say how often each of the faults is drawn."""
    rng = random.Random(seed)
    places = range(len(weights))
    while True:
        [first] = rng.choices(places, weights)
        others = [place for place in places if place != first]
        [second] = rng.choices(others, [weights[place] for place in others])
        # The second one strikes at the same moment, or while the first one lasts, or into the recovery from it.
        after_s = rng.choice((0.0, rng.uniform(0.0, _LATEST_S)))
        yield Strike(first, 0.0, rng.getrandbits(64)), Strike(second, after_s, rng.getrandbits(64))
