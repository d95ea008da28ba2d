"""The kinds of faults, and the schedule of the faults of a seed. Pure."""

import random
from collections.abc import Callable, Mapping

import attrs


def _moment(_rng: random.Random) -> float:
    return 0.0


def _between(least: float, most: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.uniform(least, most)


KINDS: Mapping[str, Callable[[random.Random], float]] = {
    "kill a worker": _moment,
    "kill a gateway": _moment,
    "lose a machine": _moment,
    "crash an actor": _moment,
    "crash a backend": _moment,
    "drain a worker": _moment,
    "drain a gateway": _moment,
    "cordon a worker": _between(0.3, 3.0),
    "cordon a gateway": _between(0.3, 3.0),
    "drop the connections of a node": _moment,
    "cut off a worker": _between(0.2, 4.0),
    "cut off a gateway": _between(0.2, 4.0),
    "cut off a worker for long": _between(1.8, 5.0),
    "cut off all workers": _between(1.8, 5.0),
    "cut off a gateway for long": _between(7.0, 14.0),
    "lose the replies to a worker": _between(0.2, 4.0),
    "lose commands and replies": _between(0.2, 1.5),
    "slow network": _between(0.2, 1.5),
    "slow disk": _between(0.2, 3.0),
    "Redis away": _between(0.05, 3.0),
    "Redis stands still": _between(0.2, 6.0),
    "Redis full": _between(2.0, 14.0),
    "Redis loses its last second": _between(0.05, 1.0),
    "pause of everything": lambda rng: rng.choice((0.5, 2.0, 10.0, 30.0)),
    "cut an upstream": _moment,
    "upstream away": _between(0.05, 2.0),
    "slow upstream": _between(0.5, 2.5),
    "upstream refuses": _between(0.2, 2.0),
    "upgrade a gateway": _moment,
    "lose a standby": _moment,
}
"""Each kind of fault, and how long one lasts, in virtual seconds. 0: the fault is a moment."""

FORGETS = "Redis loses its last second"
PAUSE = "pause of everything"
OF_UPSTREAMS = frozenset({"cut an upstream", "upstream away", "slow upstream", "upstream refuses"})
"""The faults of the servers that a cluster asks."""
OF_KEEPERS = frozenset({"upgrade a gateway", "lose a standby"})
"""The faults of gateways below keepers."""
DEATHS = frozenset({"kill a worker", "lose a machine", "crash an actor", "crash a backend"})
"""A request whose worker or backend dies may be charged an attempt for good."""
SILENCES = frozenset(
    {
        *("cut off a worker", "cut off a worker for long", "cut off all workers", "lose the replies to a worker"),
        *("lose commands and replies", "slow network", "drop the connections of a node", "Redis away", PAUSE),
        "Redis stands still",
    }
)
"""A request may be charged an attempt until its worker is heard again."""
NO_REASON_TO_WAIT = frozenset({"Redis full", "drain a worker", "drain a gateway", "cordon a gateway"})
"""Accepted streams go on all the time."""


@attrs.frozen
class Fault:
    """One fault of a schedule."""

    at_s: float
    """When it strikes, in virtual seconds."""
    kind: str
    for_s: float
    choice: float
    """Chooses the victim among those that there are then: from 0 to 1."""

    def __str__(self) -> str:
        lasts = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"at {self.at_s:.3f} s: {self.kind}{lasts} (victim {self.choice:.3f})"


def schedule_of(rng: random.Random, kinds: tuple[str, ...], *, faults: int, within_s: float) -> tuple[Fault, ...]:
    """Faults of these kinds, in the order of their times."""
    chosen = []
    for _ in range(faults if kinds else 0):
        kind = rng.choice(kinds)
        chosen.append(Fault(rng.uniform(0.3, within_s), kind, KINDS[kind](rng), rng.random()))
    return tuple(sorted(chosen, key=lambda fault: fault.at_s))
