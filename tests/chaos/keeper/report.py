"""The figures of a run. Pure."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.keeper.records import Answer
from tests.chaos.keeper.run import Outcome

KINDS = ("cut", "refused", "lost", "repeated", "wrong", "silent", "refusal")
SHOWN = 10


def lines_of(outcome: Outcome, step_s: float) -> Iterator[str]:
    """The figures, line by line."""
    answers = outcome.answers
    strikes = Counter(strike.kind for strike in outcome.strikes)
    yield f"{outcome.clients} clients; " + ", ".join(f"{kind}: {count}" for kind, count in strikes.items())
    yield from _table("client", answers, [answer.client for answer in answers])
    yield from _table("shape", answers, [answer.shape for answer in answers])
    for kind in strikes:
        moments = [strike.moment for strike in outcome.strikes if strike.kind == kind]
        yield from _pauses(kind, pauses(answers, moments, step_s))
    costs = [strike.takeover_cpu_ms for strike in outcome.strikes if strike.takeover_cpu_ms is not None]
    if costs:
        yield f"CPU of a takeover for each client: {statistics.median(costs):.2f} ms (median of {len(costs)})"
    faults = [answer for answer in answers if answer.fault]
    counted = Counter(answer.kind for answer in faults)
    yield f"{len(answers)} answers; " + ", ".join(f"{kind}: {counted[kind]}" for kind in KINDS)
    yield from (f"  {answer.client}, {answer.shape}: {answer.fault[:700]}" for answer in faults[:SHOWN])
    yield from outcome.notes[:SHOWN]


def _table(title: str, answers: Sequence[Answer], keys: Sequence[str]) -> Iterator[str]:
    counted: dict[str, Counter[str]] = {}
    for key, answer in zip(keys, answers, strict=True):
        counted.setdefault(key, Counter())[answer.kind or "right"] += 1
    yield f"{title:22} answers    right " + " ".join(f"{kind:>8}" for kind in KINDS)
    for key, kinds in sorted(counted.items()):
        counts = " ".join(f"{kinds[kind]:8}" for kind in ("right", *KINDS))
        yield f"{key:22} {kinds.total():7} {counts}"


def pauses(answers: Sequence[Answer], moments: Sequence[float], step_s: float) -> list[float]:
    """How long each answer that was being sent paused around each moment, beyond a step of the model, in order."""
    found = []
    for moment in moments:
        for answer in answers:
            if answer.heard and answer.heard[0] <= moment <= answer.heard[-1]:
                silence = answer.silence_at(moment)
                if silence is not None:
                    found.append(max(0.0, silence - step_s))
    return sorted(found)


def _pauses(kind: str, found: Sequence[float]) -> Iterator[str]:
    if found:
        p50, p99, longest = statistics.median(found), found[int(0.99 * len(found))], found[-1]
        yield (
            f"pause after {kind}: p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {longest * 1000:.0f} ms "
            f"({len(found)} pauses)"
        )
