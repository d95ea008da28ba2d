"""The results of a comparison of two revisions, as tables and as JSON. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from bench import turns
from bench.revisions import Revision
from bench.scenario import Figure, Round
from bench.servers import CLUSTER, TITLES
from bench.turns import PairedFigure
from bench.workloads import Workload, figures_of


@attrs.frozen
class Comparison:
    """The turns of one workload on one form of the project."""

    form: str
    workload: Workload
    rounds: list[list[tuple[Round, Round]]] = attrs.field(factory=list)
    """The results of both revisions in each pair of turns, by round."""
    errors: list[str] = attrs.field(factory=list)

    def rows(self) -> Iterator[tuple[Figure, PairedFigure | None]]:
        """Each figure with its statistics; None where no pair has the figure."""
        for figure in figures_of(self.workload, parts=self.form == CLUSTER):
            yield figure, paired(figure, self.rounds)


def paired(figure: Figure, rounds: Sequence[Sequence[tuple[Round, Round]]]) -> PairedFigure | None:
    """One figure over all pairs of `rounds` that have the figure."""
    values = [[(figure.of(before), figure.of(after)) for before, after in pairs] for pairs in rounds]
    return PairedFigure.of([[(a, b) for a, b in pairs if a is not None and b is not None] for pairs in values])


def one_line(figure: Figure, pairs: Sequence[tuple[Round, Round]]) -> str:
    """One figure of one round, for the progress of the measurement."""
    statistics = paired(figure, [pairs])
    if statistics is None:
        return "nothing to compare"
    values = f"{statistics.before:.2f} and {statistics.after:.2f} {figure.unit}"
    return f"{figure.title} {values}, ratio {statistics.ratio.median:.3f}"


def report(comparisons: Sequence[Comparison], revisions: tuple[Revision, Revision]) -> str:
    """The tables, and how to read them."""
    lines = []
    for form, group in itertools.groupby(comparisons, lambda each: each.form):
        rows = [
            (f"{each.workload.name}: {figure.title}, {figure.unit}", statistics)
            for each in group
            for figure, statistics in each.rows()
        ]
        lines += ["", TITLES[form], *(f"  {line}" for line in turns.table(rows))]
    lines += [
        "",
        f"first: {revisions[0].name} ({revisions[0].title}); second: {revisions[1].name} ({revisions[1].title}).",
        "Values are medians. A ratio is second / first within one pair of turns: below 1 the second costs less.",
        "The median of the ratios lies within `95 %` with that confidence. An interval with 1 in it shows",
        "no difference. About one of 20 intervals misses 1 by chance.",
    ]
    lines += [f"{TITLES[each.form]}, {each.workload.name}: {error}" for each in comparisons for error in each.errors]
    return "\n".join(lines)


def as_json(
    comparisons: Sequence[Comparison], revisions: tuple[Revision, Revision], facts: dict[str, Any]
) -> dict[str, Any]:
    """Everything that was found, for a file."""
    return {
        "machine": facts,
        "revisions": [{"name": each.name, "title": each.title} for each in revisions],
        "comparisons": [
            {
                "form": each.form,
                "scenario": each.workload.name,
                "about": each.workload.about,
                "figures": {
                    figure.path: {"unit": figure.unit, **attrs.asdict(statistics)}
                    for figure, statistics in each.rows()
                    if statistics is not None
                },
                "rounds": each.rounds,
                "errors": each.errors,
            }
            for each in comparisons
        ],
    }
