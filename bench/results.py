"""What all rounds together amount to, and how that reads. Pure."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from bench.contestants import ALONE, CLUSTER, TITLES
from bench.scenario import Figure, Round, Scenario
from bench.targets import Judgement, Medians, judge


@attrs.frozen
class Spread:
    """One figure over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.least == self.most:
            return _number(self.median)
        return f"{_number(self.median)} ({_number(self.least)} to {_number(self.most)})"


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


@attrs.frozen
class Outcome:
    """One scenario: what each contestant's rounds found, and what went wrong."""

    scenario: Scenario
    rounds: dict[str, list[Round]]
    errors: dict[str, list[str]]

    def spreads(self, contestant: str) -> dict[str, Spread]:
        """Of each figure that it has, by path."""
        found = {}
        for figure in self.scenario.figures:
            values = [value for each in self.rounds.get(contestant, ()) if (value := figure.of(each)) is not None]
            if values:
                found[figure.path] = Spread.of(values)
        return found

    def table(self) -> Iterator[list[str]]:
        """A head, then a row for each figure that anybody has."""
        names = list(self.rounds)
        spreads = {name: self.spreads(name) for name in names}
        yield ["", *(TITLES[name] for name in names)]
        for figure in self.scenario.figures:
            if any(figure.path in spreads[name] for name in names):
                title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
                yield [title, *(str(spreads[name].get(figure.path, "")) for name in names)]

    def json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "about": self.scenario.about,
            "summary": {
                name: {path: attrs.asdict(spread) for path, spread in self.spreads(name).items()}
                for name in self.rounds
            },
            "rounds": self.rounds,
            "errors": self.errors,
        }


def medians(outcomes: Iterable[Outcome]) -> Medians:
    """As the targets want them."""
    return {
        outcome.scenario.name: {
            name: {path: spread.median for path, spread in outcome.spreads(name).items()} for name in outcome.rounds
        }
        for outcome in outcomes
    }


def judgements(outcomes: Sequence[Outcome]) -> list[Judgement]:
    """On all that was run."""
    return list(judge(medians(outcomes)))


def verdicts(judged: Sequence[Judgement]) -> str:
    """For the terminal."""
    lines = []
    for name in (ALONE, CLUSTER):
        lines += ["", TITLES[name], *(f"  {each}" for each in judged if each.contestant == name)]
    return "\n".join(lines)


def markdown(outcomes: Sequence[Outcome], machine: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The report. `plots` names the picture of a scenario."""
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items() if name != "versions")
    lines = ["# Results", "", f"{facts}.", ""]
    lines += [
        "Medians over the rounds, and their range. Every token of every answer was checked.",
        "",
        "## Targets",
        "",
    ]
    lines += ["| | | measured | wanted | |", "|---|---|---|---|---|"]
    for each in judgements(outcomes):
        sign = "≥" if each.target.at_least else "≤"
        value = "" if each.value is None else f"{each.value:.3g} {each.target.unit}"
        about = f"{each.target.scenario}: {each.target.about}"
        lines.append(
            _row([TITLES[each.contestant], about, value, f"{sign} {each.limit:.3g} {each.target.unit}", each.word])
        )
    for outcome in outcomes:
        lines += ["", f"## {outcome.scenario.name}", "", f"{outcome.scenario.about}.", ""]
        head, *rows = outcome.table()
        lines += [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
        lines += [f"\n{TITLES[name]}: {error}" for name, errors in outcome.errors.items() for error in errors]
        if outcome.scenario.name in plots:
            lines += ["", f"![{outcome.scenario.name}]({plots[outcome.scenario.name]})"]
    lines += ["", "## Versions", ""]
    for name, packages in machine.get("versions", {}).items():
        lines.append(f"- {name}: " + ", ".join(f"{package} {version}" for package, version in packages.items()))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figures_to_draw(scenario: Scenario) -> list[Figure]:
    """Those that its picture shows."""
    return [figure for figure in scenario.figures if figure.drawn]
