"""A picture for each scenario: bars for its main figures, with the range over the rounds, and its curve."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import StrMethodFormatter

from bench.peers.proxies import LITELLM, ROUTER, SMG
from bench.results import ScenarioResult, Spread, figures_to_draw
from bench.scenario import Curve, Figure
from bench.servers import ALONE, CLUSTER, EVERYSEC, LLAMA, TITLES

mpl.use("agg")
COLOURS = {
    ALONE: "#0b6e8a",
    CLUSTER: "#5fb3c8",
    EVERYSEC: "#a9d6e0",
    "origin": "#8a5a0b",
    "litserve": "#7a3b69",
    "mosec": "#4f6d2f",
    "hypercorn": "#a8433b",
    "uvicorn": "#555b66",
    ROUTER: "#c98a2b",
    SMG: "#d9627a",
    LITELLM: "#b3b14a",
    LLAMA: "#6a4fa3",
}
"""Each server has one colour in all pictures."""
WORDS = {
    r"\bp50\b": "median",
    r"\bp99\b": "99 of 100 are below",
    r", /s$": "",
    r", ms$": ", in milliseconds",
    r"\bus$": "in microseconds",
    r", %$": ", in percent",
    r", MB$": ", in megabytes",
    r", MiB$": ", in MiB",
    r", x$": ", as a multiple",
}
"""What the labels of axes say in place of short forms."""
LABEL_CHARS = 40
"""The characters of a line below a panel. A longer line would run into that of the next panel."""
NO_FIGURE = "none measured"
"""What a panel says of a server that has no such figure: one that refuses nothing has no time to refuse."""
PANEL_INCHES = 4.4
BAR_INCHES = 0.4
CURVE_INCHES = 3.4
NARROWEST_INCHES = 9.5
COLUMNS = 3


def draw(scenario_results: Sequence[ScenarioResult], out: Path) -> dict[str, str]:
    """Write the pictures to the directory `out`, and return their file names by scenario."""
    drawn = {}
    for scenario_result in scenario_results:
        if any(scenario_result.rounds.values()):
            name = f"{scenario_result.scenario.name}.png"
            picture(scenario_result).savefig(out / name, dpi=110, bbox_inches="tight")
            drawn[scenario_result.scenario.name] = name
    return drawn


def picture(scenario_result: ScenarioResult) -> Canvas:
    """Panels of bars, and below them the curve if the scenario has one."""
    figures = [figure for figure in figures_to_draw(scenario_result.scenario) if spreads_of(scenario_result, figure)]
    columns = max(1, min(COLUMNS, len(figures)))
    rows = -(-len(figures) // columns)
    bars = max((len(spreads_of(scenario_result, figure)) for figure in figures), default=0)
    heights = [BAR_INCHES * bars + 1.0] * rows
    curve = scenario_result.scenario.curve
    if curve is not None:
        heights.append(CURVE_INCHES)
    canvas = Canvas(
        figsize=(max(NARROWEST_INCHES, PANEL_INCHES * columns + 2.4), sum(heights) + 0.5), layout="constrained"
    )
    grid = canvas.add_gridspec(len(heights), columns, height_ratios=heights)
    for number, figure in enumerate(figures):
        row, column = divmod(number, columns)
        # Figures of the same unit get the same scale, so that panels can be compared.
        alike = [
            spread
            for each in figures
            if each.unit == figure.unit
            for spread in spreads_of(scenario_result, each).values()
        ]
        panel = canvas.add_subplot(grid[row, column])
        draw_bars(panel, scenario_result, figure, named=column == 0, most=max(spread.most for spread in alike))
    if curve is not None:
        draw_curve(canvas.add_subplot(grid[rows, :]), scenario_result, curve)
    about = scenario_result.scenario.about
    canvas.suptitle(f"{about[0].upper()}{about[1:]}", fontsize=10)
    return canvas


def in_words(label: str) -> str:
    """The label of an axis without short forms."""
    for short, words in WORDS.items():
        label = re.sub(short, words, label)
    return label


def spreads_of(scenario_result: ScenarioResult, figure: Figure) -> dict[str, Spread]:
    """The spread of one figure, by server. Servers without this figure are left out."""
    spreads = {name: scenario_result.spreads(name).get(figure.path) for name in scenario_result.rounds}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def draw_bars(panel: Any, scenario_result: ScenarioResult, figure: Figure, *, named: bool, most: float) -> None:
    """One panel. Each server has the same place in every panel, so that a row of panels can be read across."""
    spreads = spreads_of(scenario_result, figure)
    places = {name: place for place, name in enumerate(scenario_result.rounds)}
    for name, spread in spreads.items():
        low, high = spread.median - spread.least, spread.most - spread.median
        panel.barh(places[name], spread.median, color=COLOURS[name], height=0.62)
        if spread.least != spread.most:
            panel.errorbar(spread.median, places[name], xerr=[[low], [high]], fmt="none", ecolor="#333333", capsize=2)
        digits = 0 if abs(spread.median) >= 100 or spread.median == int(spread.median) else 1
        at = (max(0.0, spread.most), places[name])
        text = f"{spread.median:,.{digits}f}"
        panel.annotate(text, at, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    for name in places.keys() - spreads.keys():
        panel.annotate(NO_FIGURE, (0, places[name]), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    panel.set_xlim(min(0.0, *(spread.least for spread in spreads.values())), most * 1.2 if most > 0 else 1)
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.set_yticks(list(places.values()), [TITLES[name] for name in places] if named else [])
    label = in_words(f"{figure.title}, {figure.unit}" if figure.unit else figure.title)
    panel.set_xlabel(textwrap.fill(label, LABEL_CHARS), fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_curve(panel: Any, scenario_result: ScenarioResult, curve: Curve) -> None:
    """One line per server, through the points of all rounds of the server."""
    highest = 0.0
    for name, rounds in scenario_result.rounds.items():
        points = sorted((x, y) for round_ in rounds for x, y in round_.get(curve.path, ()))
        xs, ys = [x for x, _ in points], [y for _, y in points]
        highest = max(highest, *ys) if ys else highest
        panel.plot(xs, ys, marker="o", markersize=3.5, linewidth=1.3, color=COLOURS[name], label=TITLES[name])
    if curve.limit is not None:
        panel.axhline(curve.limit, color="#333333", linewidth=0.8, linestyle="--")
    if curve.logarithmic:
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.xaxis.set_minor_formatter("")
    if highest:
        panel.set_ylim(0, 1.08 * highest if curve.limit is None else min(1.08 * highest, 4 * curve.limit))
    panel.set_xlabel(in_words(curve.x), fontsize=9)
    panel.set_ylabel(in_words(curve.y), fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
