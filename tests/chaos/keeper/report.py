"""The figures of a run. Pure."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.chaos.keeper.records import Outcome, Strike

KINDS = ("cut", "refused", "lost", "repeated", "wrong", "silent", "refusal")
SHOWN = 10


def lines_of(outcome: Outcome, step_s: float) -> Iterator[str]:
    """The figures, line by line."""
    strikes = Counter(strike.kind for strike in outcome.strikes)
    yield f"{outcome.clients} clients; " + ", ".join(f"{kind}: {count}" for kind, count in strikes.items())
    yield from _table("client", ((client, fault, count) for (client, _, fault), count in outcome.counted.items()))
    yield from _table("shape", ((shape, fault, count) for (_, shape, fault), count in outcome.counted.items()))
    for kind in strikes:
        yield from _pauses(kind, pauses([strike for strike in outcome.strikes if strike.kind == kind], step_s))
    costs = [strike.takeover_cpu_ms for strike in outcome.strikes if strike.takeover_cpu_ms is not None]
    if costs:
        yield f"CPU of a takeover for each client: {statistics.median(costs):.2f} ms (median of {len(costs)})"
    counted = Counter(answer.kind for answer in outcome.faults)
    yield f"{outcome.counted.total()} answers; " + ", ".join(f"{kind}: {counted[kind]}" for kind in KINDS)
    yield from (f"  {answer.client}, {answer.shape}: {answer.fault[:700]}" for answer in outcome.faults[:SHOWN])
    yield from outcome.notes[:SHOWN]


def _table(title: str, counts: Iterable[tuple[str, str, int]]) -> Iterator[str]:
    rows: dict[str, Counter[str]] = {}
    for key, fault, count in counts:
        rows.setdefault(key, Counter())[fault or "right"] += count
    yield f"{title:22} answers    right " + " ".join(f"{kind:>8}" for kind in KINDS)
    for key, kinds in sorted(rows.items()):
        yield f"{key:22} {kinds.total():7} " + " ".join(f"{kinds[kind]:8}" for kind in ("right", *KINDS))


def pauses(strikes: Sequence[Strike], step_s: float) -> list[float]:
    """How long the clients heard nothing around these strikes, beyond a step of the model, in order."""
    return sorted(max(0.0, silence - step_s) for strike in strikes for silence in strike.silences_s)


def _pauses(kind: str, found: Sequence[float]) -> Iterator[str]:
    if found:
        p50, p99, longest = statistics.median(found), found[int(0.99 * len(found))], found[-1]
        yield (
            f"pause after {kind}: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {longest * 1000:.0f} ms "
            f"({len(found)} pauses)"
        )
