"""Runs one seed, judges the run, and makes the schedule of a seed that fails smaller."""

from collections.abc import Callable, Sequence

import attrs

from tests.simulation import determinism
from tests.simulation.faults import Fault, schedule_of
from tests.simulation.store import Store
from tests.simulation.world import Outcome, WorldSettings, simulate

PAUSE = "pause of everything"


@attrs.frozen(kw_only=True)
class SeedSettings:
    """What every seed of a series has in common."""

    faults: int = 6
    within_s: float = 6.0
    kinds: tuple[str, ...] = ()
    """The kinds of faults; empty for all of them."""
    world: WorldSettings = attrs.field(factory=WorldSettings)
    binary: str | None = None
    """The program of the server; None for any."""

    def schedule(self, seed: int) -> tuple[Fault, ...]:
        """All faults of a seed."""
        return schedule_of(seed, faults=self.faults, within_s=self.within_s, kinds=self.kinds)


@attrs.frozen
class SeedResult:
    """What a run of a seed showed."""

    seed: int
    schedule: tuple[Fault, ...]
    outcome: Outcome

    @property
    def complaints(self) -> list[str]:
        """What must not be: empty for a good run."""
        report = self.outcome.report
        found = [f"{count} {kind}" for kind, count in report.broken.items()]
        found += [f"{count} answers ended with {code}" for code, count in report.failures.items()]
        found += [f"{len(self.outcome.order.violations)} writes out of order"] if self.outcome.order.violations else []
        content = self.outcome.content
        found += [f"{count} answers broken: {kind}" for kind, count in content.broken.items() if count]
        found += [f"{count} calls ended with {code}" for code, count in content.failures.items()]
        found += [f"a node ended: {text}" for text in self.outcome.exits]
        if self.outcome.is_late:
            found.append("the run did not end")
        return found


def run_seed(store: Store, seed: int, settings: SeedSettings, keep: Sequence[int] | None = None) -> SeedResult:
    """Runs a seed with all faults of its schedule, or with those whose places `keep` has."""
    schedule = settings.schedule(seed)
    if keep is not None:
        schedule = tuple(schedule[place] for place in keep)
    determinism.seed(seed)
    return SeedResult(seed, schedule, simulate(store, seed, schedule, settings.world))


def shrink(places: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """The fewest places that still fail, found by leaving out one after the other until none can be left out."""
    kept = list(places)
    smaller = True
    while smaller:
        smaller = False
        for place in tuple(kept):
            fewer = [each for each in kept if each != place]
            if fails(fewer):
                kept, smaller = fewer, True
    return kept
