"""Load llmactors for an hour with everything that clients do, kill its processes, and say which figures grew.

    python -m bench.soak --minutes 60 --form both --json soak.json

The program exits with 1 if an answer was lost, repeated or wrong, or if a figure grew.
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.machine import facts
from bench.soak import report
from bench.soak.form import FORMS, Form
from bench.soak.growth import warm_up_s
from bench.soak.strays import guarded, kill

_PROGRESS_S = 60.0


@attrs.frozen
class Result:
    """The outcome of one form."""

    failures: list[str]
    data: dict[str, Any]


async def soak(names: list[str], seconds: float) -> dict[str, Result]:
    """Run the forms side by side, and print the report of each. SIGTERM and SIGINT end the run."""
    results: dict[str, Result] = {}
    async with trio.open_nursery() as outer:
        outer.start_soon(_cancel_at_signal, outer.cancel_scope)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(_soak_form, name, seconds, results)
        outer.cancel_scope.cancel(reason="all forms have ended")
    return results


async def _cancel_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            scope.cancel(reason=f"the soak was ended by {signal.Signals(number).name}")


async def _soak_form(name: str, seconds: float, results: dict[str, Result]) -> None:
    warm_s = warm_up_s(seconds)
    async with FORMS[name]() as form:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show_progress, form)
            await form.load(seconds)
            nursery.cancel_scope.cancel(reason="the load has ended")
        await form.rest()
        print(*report.lines(form, warm_s=warm_s), sep="\n", flush=True)
        results[name] = Result(report.failures(form, warm_s=warm_s), report.as_json(form, warm_s=warm_s))


async def _show_progress(form: Form) -> None:
    began = trio.current_time()
    while True:
        await trio.sleep(_PROGRESS_S)
        minutes = (trio.current_time() - began) / 60
        tally = form.tally
        print(
            f"{form.name} after {minutes:.0f} min: {tally.right.total():,} right, {tally.faults.total()} faults,"
            f" {tally.broken or 'nothing broken'}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Look for what grows under a long load.")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the load [60]")
    parser.add_argument("--form", choices=[*FORMS, "both"], default="both", help="the form that is loaded [both]")
    parser.add_argument("--json", type=Path, help="write all samples and counts to this file")
    given = parser.parse_args()
    names = list(FORMS) if given.form == "both" else [given.form]
    machine, began = facts(), time.monotonic()
    with guarded() as run:
        try:
            results = trio.run(soak, names, 60 * given.minutes)
        finally:
            left = kill(run)
    print(f"\n{len(left)} processes were left after {time.monotonic() - began:.0f} s, and were killed")
    if given.json:
        data = {"machine": machine, "minutes": given.minutes, **{name: each.data for name, each in results.items()}}
        given.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    failures = [failure for each in results.values() for failure in each.failures]
    print(*failures, sep="\n")
    if failures or left or len(results) < len(names):
        raise SystemExit(1)
    print(report.verdict(warm_up_s(60 * given.minutes)))


if __name__ == "__main__":
    main()
