"""A picture for each scenario: bars for its headline figures, with the range over the rounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from bench.contestants import OURS, TITLES
from bench.results import Outcome, figures_to_draw
from bench.scenario import Figure

mpl.use("agg")
OURS_COLOUR = "#1f6f8b"
THEIRS_COLOUR = "#b8bcc2"
PANEL_INCHES = 4.6
BAR_INCHES = 0.42
COLUMNS = 3


def draw(outcomes: Sequence[Outcome], out: Path) -> dict[str, str]:
    """The names of the files, by scenario."""
    drawn = {}
    for outcome in outcomes:
        if any(outcome.rounds.values()):
            name = f"{outcome.scenario.name}.png"
            picture(outcome).savefig(out / name, dpi=110, bbox_inches="tight")
            drawn[outcome.scenario.name] = name
    return drawn


def picture(outcome: Outcome) -> Canvas:
    """A panel for each figure."""
    figures = [figure for figure in figures_to_draw(outcome.scenario) if values_of(outcome, figure)]
    columns = min(COLUMNS, len(figures)) or 1
    rows = -(-len(figures) // columns) or 1
    bars = max((len(values_of(outcome, figure)) for figure in figures), default=1)
    canvas = Canvas(figsize=(PANEL_INCHES * columns + 2, rows * (BAR_INCHES * bars + 1.2)), layout="constrained")
    panels = canvas.subplots(rows, columns, squeeze=False, sharey=True).flat
    for panel, figure in zip(panels, figures, strict=False):
        bars_of(panel, outcome, figure)
    for panel in list(panels):
        panel.set_visible(False)
    canvas.suptitle(f"{outcome.scenario.name}: {outcome.scenario.about}", fontsize=10, x=0.01, ha="left")
    return canvas


def values_of(outcome: Outcome, figure: Figure) -> dict[str, Any]:
    """The spread of each contestant that has this figure."""
    spreads = {name: outcome.spreads(name).get(figure.path) for name in outcome.rounds}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def bars_of(panel: Any, outcome: Outcome, figure: Figure) -> None:
    """One panel."""
    spreads = values_of(outcome, figure)
    names = list(spreads)
    values = [spreads[name].median for name in names]
    ranges = [
        [max(0.0, spreads[name].median - spreads[name].least) for name in names],
        [max(0.0, spreads[name].most - spreads[name].median) for name in names],
    ]
    colours = [OURS_COLOUR if name in OURS else THEIRS_COLOUR for name in names]
    titles = [TITLES[name] for name in names]
    panel.barh(titles, values, color=colours, height=0.62)
    panel.errorbar(values, titles, xerr=ranges, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    right = max((spreads[name].most for name in names), default=0.0)
    for title, name in zip(titles, names, strict=True):
        panel.annotate(
            f"{spreads[name].median:,.4g}" if abs(spreads[name].median) < 1000 else f"{spreads[name].median:,.0f}",
            (max(0.0, spreads[name].most), title),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    panel.set_xlim(min(0.0, *values), right * 1.18 or 1)
    panel.invert_yaxis()
    panel.set_title(f"{figure.title}, {figure.unit}" if figure.unit else figure.title, fontsize=9)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
