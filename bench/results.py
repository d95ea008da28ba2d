"""Statistics over all rounds, and the report that shows them. Pure."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from bench.scenario import Figure, Round, Scenario
from bench.servers import ALONE, CLUSTER, TITLES
from bench.targets import Medians, TargetResult, judge


@attrs.frozen
class Spread:
    """Median and range of one figure."""

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
class ScenarioResult:
    """The rounds and the failures of each server in one scenario."""

    scenario: Scenario
    rounds: dict[str, list[Round]]
    errors: dict[str, list[str]]

    def spreads(self, server: str) -> dict[str, Spread]:
        """The spread of each figure of one server, by the path of the figure."""
        found = {}
        for figure in self.scenario.figures:
            values = [value for each in self.rounds.get(server, ()) if (value := figure.of(each)) is not None]
            if values:
                found[figure.path] = Spread.of(values)
        return found

    def table(self) -> Iterator[list[str]]:
        """The rows of a table: the headings, and a row for each figure that any server has."""
        names = list(self.rounds)
        spreads = {name: self.spreads(name) for name in names}
        yield ["", *(TITLES[name] for name in names)]
        for figure in self.scenario.figures:
            if any(figure.path in spreads[name] for name in names):
                title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
                yield [title, *(str(spreads[name].get(figure.path, "")) for name in names)]

    def json(self) -> dict[str, Any]:
        """All rounds, and their statistics."""
        return {
            "about": self.scenario.about,
            "summary": {
                name: {path: attrs.asdict(spread) for path, spread in self.spreads(name).items()}
                for name in self.rounds
            },
            "rounds": self.rounds,
            "errors": self.errors,
        }


def medians(scenario_results: Iterable[ScenarioResult]) -> Medians:
    """The medians of all figures."""
    return {
        scenario_result.scenario.name: {
            name: {path: spread.median for path, spread in scenario_result.spreads(name).items()}
            for name in scenario_result.rounds
        }
        for scenario_result in scenario_results
    }


def target_results(scenario_results: Sequence[ScenarioResult]) -> list[TargetResult]:
    """All targets of the scenarios that were run, reached or not."""
    return list(judge(medians(scenario_results)))


def target_lines(judged: Sequence[TargetResult]) -> str:
    """A table of the targets, for a terminal."""
    lines = []
    for name in (ALONE, CLUSTER):
        lines += ["", TITLES[name], *(f"  {each}" for each in judged if each.server == name)]
    return "\n".join(lines)


def markdown(scenario_results: Sequence[ScenarioResult], machine: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The report. `plots` has the file name of the picture of each scenario."""
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items() if name != "versions")
    lines = ["# Results", "", f"{facts}.", ""]
    lines += [
        "The figures are medians over the rounds, with their range. Every token of every answer was checked.",
        "",
        "## Targets",
        "",
    ]
    lines += ["| | | measured | wanted | |", "|---|---|---|---|---|"]
    for each in target_results(scenario_results):
        sign = "≥" if each.target.at_least else "≤"
        value = "" if each.value is None else f"{each.value:.3g} {each.target.unit}"
        about = f"{each.target.scenario}: {each.target.about}"
        lines.append(
            _row([TITLES[each.server], about, value, f"{sign} {each.limit:.3g} {each.target.unit}", each.word])
        )
    for scenario_result in scenario_results:
        lines += ["", f"## {scenario_result.scenario.name}", "", f"{scenario_result.scenario.about}.", ""]
        head, *rows = scenario_result.table()
        lines += [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
        lines += [f"\n{TITLES[name]}: {error}" for name, errors in scenario_result.errors.items() for error in errors]
        if scenario_result.scenario.name in plots:
            lines += ["", f"![{scenario_result.scenario.name}]({plots[scenario_result.scenario.name]})"]
    lines += ["", "## Versions", ""]
    for name, packages in machine.get("versions", {}).items():
        lines.append(f"- {name}: " + ", ".join(f"{package} {version}" for package, version in packages.items()))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def figures_to_draw(scenario: Scenario) -> list[Figure]:
    """The figures that the picture of a scenario shows."""
    return [figure for figure in scenario.figures if figure.drawn]
