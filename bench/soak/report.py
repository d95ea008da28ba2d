"""The report of a soak."""

import collections
from collections.abc import Iterator
from typing import Any

import attrs

from bench.soak.form import Form
from bench.soak.growth import WARM_S, Growth
from bench.soak.samples import FIGURES


def growths(form: Form, *, warm_s: float) -> Iterator[tuple[str, str, Growth]]:
    """The growth of each figure of each part of a form."""
    for (part, name), points in form.samples.points.items():
        if (growth := Growth.of(points, FIGURES[name].tolerance, warm_s=warm_s)) is not None:
            yield part, name, growth


def restarted(form: Form) -> set[str]:
    """The names of the processes that were started more than once, whose memory says nothing about growth."""
    return {process.name for process in form.processes() if process.starts > 1}


def failures(form: Form, *, warm_s: float) -> list[str]:
    """Everything that must not happen in a soak, one sentence each."""
    found = [f"{form.name}: {count} {name}" for name, count in form.tally.broken.items()]
    found += [
        f"{form.name}: {FIGURES[name].title} of {part} grew"
        for part, name, growth in growths(form, warm_s=warm_s)
        if warm_s >= WARM_S and not growth.is_flat and part not in restarted(form)
    ]
    found += [f"{form.name}: {len(form.keys_left)} keys are left in Redis"] * bool(form.keys_left)
    found += [f"{form.name}: {len(form.tracebacks())} tracebacks"] * bool(form.tracebacks())
    return found


def verdict(warm_s: float) -> str:
    """The last line of a run without failures."""
    grew = "No figure grew." if warm_s >= WARM_S else "The run was too short to tell whether a figure grew."
    return f"Nothing was lost, repeated or wrong. {grew}"


def lines(form: Form, *, warm_s: float) -> Iterator[str]:
    """The report of one form."""
    tally, often = form.tally, restarted(form)
    yield f"\n{form.name}: {sum(tally.right.values()):,} right answers, {tally.tokens:,} tokens"
    yield f"  {_counts(tally.right)}"
    yield (
        f"  lost {tally.lost.total()}, repeated {tally.repeated.total()}, wrong {tally.wrong.total()},"
        f" innocents convicted {tally.innocents_convicted}, crashing requests convicted {tally.convicted}"
    )
    yield f"  faults: {_counts(tally.faults)}; cut connections: {_counts(tally.cuts)}"
    explained = sum(error.is_explained for error in tally.server_errors)
    yield f"  5xx: {explained} times 503 within 20 s of a fault, {len(tally.server_errors) - explained} others"
    yield f"  refused: {_counts(tally.refused)}"
    yield f"  first responses to {tally.nonsense.total():,} malformed requests: {_counts(tally.nonsense)}"
    yield f"  keys left in Redis: {len(form.keys_left)}; tracebacks: {len(form.tracebacks())}"
    yield from (f"  example: {example}" for example in tally.examples)
    yield from (f"  key left: {key}" for key in form.keys_left[:10])
    yield from (f"  traceback: {text[:1500]}" for text in form.tracebacks()[:3])
    yield f"  {'':12} {'':18} {'first':>9} {'last':>9} {'most':>9} {'per hour':>9}"
    for part, name, growth in growths(form, warm_s=warm_s):
        figure = FIGURES[name]
        cells = " ".join(
            f"{value / figure.scale:9.2f}" for value in (growth.first, growth.last, growth.most, growth.per_hour)
        )
        title = f"{figure.title}{', ' * bool(figure.unit)}{figure.unit}"
        yield f"  {part:12} {title:18} {cells}  {_judgement(growth, warm_s, is_restarted=part in often)}"
    for (part, name), points in form.samples.points.items():
        if part.endswith("at rest"):
            yield f"  {part:21} {FIGURES[name].title:12} {points[-1][1] / FIGURES[name].scale:9.2f}"


def as_json(form: Form, *, warm_s: float) -> dict[str, Any]:
    """The same as data, with all samples."""
    return {
        "tally": attrs.asdict(form.tally, filter=lambda field, _: not field.name.startswith("_")),
        "growth": [
            {"part": part, "figure": name, **attrs.asdict(growth), "is_flat": growth.is_flat}
            for part, name, growth in growths(form, warm_s=warm_s)
        ],
        "restarted": sorted(restarted(form)),
        "keys_left": form.keys_left,
        "tracebacks": form.tracebacks(),
        "samples": [
            {"part": part, "figure": name, "points": points} for (part, name), points in form.samples.points.items()
        ],
    }


def _judgement(growth: Growth, warm_s: float, *, is_restarted: bool) -> str:
    if is_restarted:
        return "restarted"
    if warm_s < WARM_S:
        return "too short to tell"
    return "flat" if growth.is_flat else "GREW"


def _counts(counter: "collections.Counter[Any]") -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counter.items(), key=str)) or "none"
