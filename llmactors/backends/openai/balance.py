"""Which upstream gets the next request. Pure: `now` and `rng` are arguments."""

import random
from collections.abc import Collection, Sequence

import attrs

from llmactors.backends.openai.circuit import Circuit


@attrs.frozen
class Balance:
    """The circuits of a model's upstreams and their weights. Hand the same one to each incarnation of the backend."""

    weights: tuple[float, ...]
    circuits: tuple[Circuit, ...]

    @classmethod
    def of(cls, weights: Sequence[float]) -> "Balance":
        """Makes a balance whose circuits are all closed."""
        return cls(tuple(weights), tuple(Circuit() for _ in weights))

    def choose(self, now: float, rng: random.Random, *, avoid: Collection[int] = ()) -> int | None:
        """Chooses an upstream that takes requests, at random by weight.

        An upstream of `avoid` is chosen only where no other takes requests. None: no upstream takes requests.
        """
        ready = [place for place, circuit in enumerate(self.circuits) if circuit.admits(now)]
        ready = [place for place in ready if place not in avoid] or ready
        if not ready:
            return None
        return rng.choices(ready, [self.weights[place] for place in ready])[0]

    def next_at(self, now: float) -> float:
        """The earliest time at which some upstream may take requests."""
        return min(circuit.next_at(now) for circuit in self.circuits)
