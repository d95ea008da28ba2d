"""The schedule of the faults of a seed. Pure."""

import random
from collections.abc import Callable

import attrs

KINDS: dict[str, Callable[[random.Random], float]] = {
    "kill a worker": lambda _: 0.0,
    "kill a gateway": lambda _: 0.0,
    "crash an actor": lambda _: 0.0,
    "cut off a worker": lambda rng: rng.uniform(0.2, 4.0),
    "cut off a gateway": lambda rng: rng.uniform(0.2, 4.0),
    "lose commands and replies": lambda rng: rng.uniform(0.2, 1.5),
    "slow network": lambda rng: rng.uniform(0.2, 1.5),
    "Redis away": lambda rng: rng.uniform(0.05, 3.0),
    "Redis loses its last second": lambda rng: rng.uniform(0.05, 1.0),
    "pause of everything": lambda rng: rng.choice((0.5, 2.0, 10.0, 30.0)),
}
"""Each kind of fault, and how long one lasts, in virtual seconds. 0: the fault is a moment."""


FORGETS = "Redis loses its last second"
WITH_FORGETTING = (FORGETS, "kill a worker", "cut off a worker", "slow network")
"""The kinds that go together with a Redis that loses what it acknowledged. The gateway has the second copy of that,
while a client reads it, so nothing else may take the gateway, its actors or the client away."""


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


def schedule_of(seed: int, *, faults: int, within_s: float, kinds: tuple[str, ...] = ()) -> tuple[Fault, ...]:
    """The faults of a seed, in the order of their times: of `kinds`, or of all kinds that go together."""
    rng = random.Random(f"faults of {seed}")
    if not kinds:
        kinds = WITH_FORGETTING if rng.random() < 0.2 else tuple(kind for kind in KINDS if kind != FORGETS)
    chosen = []
    for _ in range(faults):
        kind = rng.choice(kinds)
        chosen.append(Fault(rng.uniform(0.3, within_s), kind, KINDS[kind](rng), rng.random()))
    return tuple(sorted(chosen, key=lambda fault: fault.at_s))
