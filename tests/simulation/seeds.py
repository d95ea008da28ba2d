"""Runs one seed, and makes the schedule of a seed that fails smaller."""

from collections.abc import Callable, Sequence

import attrs

from tests.simulation import determinism
from tests.simulation.store import Store
from tests.simulation.themes import Plan, plan_of
from tests.simulation.world import Outcome, simulate


@attrs.frozen(kw_only=True)
class SeedSettings:
    """What every seed of a series has in common."""

    themes: tuple[str, ...] = ()
    """The themes; empty for all of them."""
    kinds: tuple[str, ...] = ()
    """The kinds of faults; empty for those of the theme."""
    binary: str | None = None
    """The program of the server; None for any."""

    def plan(self, seed: int) -> Plan:
        """What a seed does."""
        return plan_of(seed, themes=self.themes, kinds=self.kinds)

    def replay(self, seed: int, kept: Sequence[int]) -> str:
        """The command that runs a seed again, with the faults of its schedule at these places."""
        command = ["python -m tests.simulation", f"--seed {seed}"]
        command += [f"--theme {theme}" for theme in self.themes]
        command += [f"--kind '{kind}'" for kind in self.kinds]
        return " ".join([*command, f"--keep {','.join(map(str, kept)) or 'none'}"])


@attrs.frozen
class SeedResult:
    """What a run of a seed showed."""

    seed: int
    plan: Plan
    outcome: Outcome


def run_seed(store: Store, seed: int, settings: SeedSettings, keep: Sequence[int] | None = None) -> SeedResult:
    """Runs a seed with all faults of its schedule, or with those whose places `keep` has."""
    plan = settings.plan(seed)
    struck = plan
    if keep is not None:
        struck = attrs.evolve(plan, schedule=tuple(plan.schedule[place] for place in keep))
    determinism.seed(seed)
    return SeedResult(seed, plan, simulate(store, seed, struck))


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
