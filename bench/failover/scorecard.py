"""The table of all grades. Pure."""

from collections.abc import Mapping, Sequence

from bench.failover.grading import Grade
from bench.failover.play import Played
from bench.failover.published import PUBLISHED
from bench.failover.scenarios import SCENARIOS

_SIGNS = {Grade.PASS: "pass", Grade.PARTIAL: "part", Grade.SAFE: "safe", Grade.FAIL: "FAIL"}


def scorecard(own: Mapping[str, Sequence[Played]]) -> str:
    """Our rows, by their names, above those that failoverbench published; then a line for each fault."""
    rows = {name: {each.scenario.name: each.result.grade for each in played} for name, played in own.items()}
    names = [scenario.name for scenario in SCENARIOS]
    width = max(map(len, [*rows, *PUBLISHED]))
    lines = [f"{'':{width}}  " + " ".join(f"{name:>4}" for name in names) + "   pass partial safe fail"]
    lines += [_row(name, grades, names, width) for name, grades in rows.items()]
    lines.append("as failoverbench published on 2026-09-12:")
    lines += [_row(name, grades, names, width) for name, grades in PUBLISHED.items()]
    for name, played in own.items():
        lines += ["", f"{name}:", *map(_detail, played)]
    return "\n".join(lines)


def _row(name: str, grades: Mapping[str, Grade], names: Sequence[str], width: int) -> str:
    cells = " ".join(f"{_SIGNS[grades[each]] if each in grades else '-':>4}" for each in names)
    counts = [sum(grade is kind for grade in grades.values()) for kind in Grade]
    return f"{name:{width}}  {cells}   {counts[0]:>4} {counts[1]:>7} {counts[2]:>4} {counts[3]:>4}"


def _detail(played: Played) -> str:
    seen, result = played.seen, played.result
    attempts = f"{len(seen.primary_at_s)} at the model"
    gap = "" if seen.first_gap_s is None else f", the second {seen.first_gap_s:.2f} s after the first"
    reason = f": {result.reason}" if result.reason else ""
    title = f"{played.scenario.name} {played.scenario.title}"
    return f"  {title:42} {result.grade.value:7} {seen.elapsed_s:6.2f} s, {attempts}{gap}{reason}"
