"""Which upstream gets the next request. Pure: `now` and `rng` are arguments."""

import random
from collections.abc import Collection, Iterator, Sequence

import attrs

from llmactors.backends.openai.routing.circuit import Circuit
from llmactors.backends.openai.routing.counters import UpstreamCounters
from llmactors.backends.openai.routing.faults import CircuitEffect, UpstreamFault
from llmactors.backends.openai.settings import UpstreamSettings

_MOST_HALVINGS = 3
"""An upstream that loses every race keeps an eighth of its weight, so that its recovery is noticed."""


@attrs.define
class Balance:
    """The circuits of a model's upstreams, and what is known of them.

    Hand the same balance to each incarnation of the backend.
    """

    upstreams: tuple[UpstreamSettings, ...]
    circuits: tuple[Circuit, ...]
    counters: tuple[UpstreamCounters, ...]
    halvings: list[int]
    """How often the weight of each upstream is halved, because another upstream gave a first token before it."""
    hedges_running: int = 0
    """How many requests wait for a first token from two upstreams."""

    @classmethod
    def of(cls, upstreams: Sequence[UpstreamSettings]) -> "Balance":
        """Makes a balance whose circuits are all closed."""
        circuits = tuple(Circuit() for _ in upstreams)
        return cls(tuple(upstreams), circuits, tuple(UpstreamCounters() for _ in upstreams), [0] * len(upstreams))

    def tiers(self) -> Iterator[list[int]]:
        """The places of the upstreams of each priority, the first priority first."""
        for priority in sorted({one.priority for one in self.upstreams}):
            yield [place for place, one in enumerate(self.upstreams) if one.priority == priority]

    def pick(self, places: Sequence[int], rng: random.Random) -> int:
        """Picks one of these upstreams at random, by weight. An upstream that loses races is picked less often."""
        return rng.choices(places, [self.upstreams[place].weight / 2 ** self.halvings[place] for place in places])[0]

    def note_lost_race(self, place: int) -> None:
        """Records that another upstream, which was asked later, gave the first token of an answer."""
        self.halvings[place] = min(self.halvings[place] + 1, _MOST_HALVINGS)

    def note_first_token(self, place: int) -> None:
        """Records that an upstream gave the first token of an answer."""
        self.halvings[place] = max(self.halvings[place] - 1, 0)

    def admits(self, place: int, now: float) -> bool:
        """Whether an upstream takes a request now."""
        return self.circuits[place].admits(now)

    def next_at(self, now: float, *, without: Collection[int] = ()) -> float:
        """The earliest time at which some upstream may take requests. One at least must not be in `without`."""
        return min(circuit.next_at(now) for place, circuit in enumerate(self.circuits) if place not in without)

    def note_fault(self, place: int, fault: UpstreamFault, now: float, rng: random.Random) -> None:
        """Records a fault of an upstream in its circuit."""
        circuit = self.circuits[place]
        if fault.kind.effect in {CircuitEffect.COUNTS, CircuitEffect.OPENS}:
            # The texts of other faults may quote what a client sent, and this one is logged.
            self.counters[place].last_fault = fault.error.message
        if fault.hold_s is not None:
            circuit.hold(now + fault.hold_s)
        match fault.kind.effect:
            case CircuitEffect.WORKS:
                circuit.succeed()
            case CircuitEffect.COUNTS:
                circuit.fail(now, rng)
            case CircuitEffect.OPENS:
                circuit.open(now, rng)
            case CircuitEffect.NOTHING:
                pass
