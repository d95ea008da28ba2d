"""The table of a storm, as text."""

from collections.abc import Sequence

from llmactors.testing.checker import percentiles
from tests.chaos.storm.run import Outcome

_HEAD = ("fault", "strikes", "flowing again: p50", "p99", "max")


def _seconds(values: Sequence[float]) -> list[str]:
    found = percentiles(values)
    return [f"{found[name]:.1f} s" if found else "-" for name in ("p50", "p99", "max")]


def lines_of(outcome: Outcome) -> list[str]:
    """The lines of the table, and the sums below it."""
    rows = [_HEAD]
    for nemesis in sorted(outcome.nemeses, key=lambda each: -each.count):
        if not nemesis.count:
            continue
        p50, p99, most = _seconds(outcome.recoveries.get(nemesis.name, ()))
        rows.append((nemesis.name, str(nemesis.count), p50, p99, most))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    report = outcome.report
    failures = ", ".join(f"{count:,} x {code}" for code, count in report.failures.most_common()) or "none"
    pauses = " · ".join(
        f"{name} {text}"
        for name, text in zip(("p50", "p99", "max"), _seconds([gap.seconds for gap in report.gaps]), strict=True)
    )
    plain, refused = outcome.plain, outcome.plain.refused.total()
    return [
        *table,
        f"{outcome.faults:,} faults in {outcome.seconds:.0f} s, seed {outcome.seed}",
        f"requests {report.accepted:,} accepted, {report.ended_once:,} ended once, {report.finished:,} finished",
        f"tokens {report.tokens:,}: lost {report.lost:,}, repeated {report.repeated:,}, wrong {report.wrong:,}",
        f"out of order {report.disordered:,}; logs read twice {report.replays:,}, differ {report.replays_differ:,}",
        f"requests lost {report.lost_requests:,}, ended twice {report.second_ends:,}, misrecorded {report.misrecorded}",
        f"explicit failures: {failures}",
        f"pauses that clients saw: {pauses}; connections made again {report.reconnects:,}",
        f"clients that never connect again: {plain.answers:,} answers, {plain.cuts.total()} cut, refused {refused}",
        *(f"ended by itself, {count} times: {why}" for why, count in outcome.exits.most_common()),
        *(f"BROKEN: {example}" for example in report.examples),
        *(f"WRONG: {text}" for text in outcome.wrong[:40]),
    ]
