"""When the requests of an open loop arrive. Pure."""

import random
from collections.abc import Iterator


def poisson(rate: float, seed: int) -> Iterator[float]:
    """The times of arrivals in seconds from the beginning, without end: a Poisson process of `rate` per second.

    The same seed gives the same times.
    """
    rng = random.Random(seed)
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def ramp(clients: int, ramp_s: float) -> list[float]:
    """The times at which the clients of a closed loop begin, in seconds: evenly over `ramp_s`."""
    return [ramp_s * number / clients for number in range(clients)]
