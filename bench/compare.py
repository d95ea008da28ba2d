"""CPU time and latency of two commits of this project, measured by turns on this machine.

    python -m bench.compare REV             # the commit REV beside the working tree: about five minutes
    python -m bench.compare REV REV2        # two commits
    python -m bench.compare REV --quick     # about 90 seconds; the figures are less certain

Each revision is copied to a temporary directory, and its servers run from the copy in the Python environment of this
program. The load client is that of the working tree for both. In each round both revisions serve a workload from fresh
processes at the same time, and are loaded one at a time, in short turns: first, second, second, first, … Read the
ratios, not the values: the speed of a shared machine changes between pairs of turns more than within one pair.
"""

import argparse
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

from bench import machine, turns
from bench.comparison import Comparison, as_json, one_line, report
from bench.processes import ROOT
from bench.revisions import Revision, RevisionError, check_import, export
from bench.scenario import Bench, Round
from bench.servers import ALONE, CLUSTER, TITLES, RunningServer
from bench.workloads import WORKLOADS, Workload

FORMS = {"one": ALONE, "redis": CLUSTER}
ROUNDS, SECONDS = 6, 2.0
"""An even number of rounds, as the servers change places from round to round."""
QUICK_ROUNDS, QUICK_SECONDS = 2, 1.0
LIMIT_S = 360.0
"""No round begins that would end later on a busy machine, unless the user asks for a number of rounds."""
TURN_OVERHEAD_S = 0.2
"""The time that a turn takes besides the load, mostly to check the answers."""
START_S = 2.0
"""The time to start, warm up and stop the servers of one revision."""


def compare(
    bench: Bench,
    revisions: tuple[Revision, Revision],
    comparisons: Sequence[Comparison],
    *,
    rounds: int,
    seconds: float,
    limit_s: float | None = None,
) -> None:
    """Add `rounds` rounds to each comparison. A failure is recorded, and the other comparisons go on.

    Each revision is loaded for about `seconds` per round and comparison. With `limit_s`, no round begins that would
    end later than that; the first round always takes place.
    """
    started = time.monotonic()
    for number in range(1, rounds + 1):
        if limit_s is not None and next_end_s(time.monotonic() - started, number - 1) > limit_s:
            print(f"The limit of {limit_s / 60:g} minutes ends the measurement after {number - 1} of {rounds} rounds.")
            return
        for comparison in comparisons:
            begun = time.monotonic()
            pairs = pairs_of(comparison.workload, seconds)
            try:
                found = measure_round(bench, revisions, comparison, number, pairs)
            except (RuntimeError, OSError, httpx.HTTPError) as error:
                comparison.errors.append(f"round {number}: {error}")
                summary = f"FAILED: {error}"
            else:
                comparison.rounds.append(found)
                summary = one_line(comparison.workload.figures[0], found)
            name = f"{comparison.workload.name}, {TITLES[comparison.form]}"
            print(f"{number}/{rounds} {name}: {summary} ({time.monotonic() - begun:.0f} s)", flush=True)


def next_end_s(elapsed_s: float, rounds: int) -> float:
    """The time at which the next round ends, if the round takes as long as the `rounds` rounds before on average."""
    return elapsed_s * (rounds + 1) / rounds if rounds else 0.0


def pairs_of(workload: Workload, seconds: float) -> int:
    """Pairs of turns in a round: an even number, so that each revision is first equally often."""
    return 2 * max(1, round(seconds / workload.turn_s / 2))


def measure_round(
    bench: Bench, revisions: tuple[Revision, Revision], comparison: Comparison, number: int, pairs: int
) -> list[tuple[Round, Round]]:
    """Start both revisions afresh, warm each up with one turn, and measure `pairs` pairs of turns.

    The servers start in an order that alternates with `number`: the first one may get a better place in memory, and
    the first turns of all are slower than later ones.

    Raises:
        RuntimeError: A server did not start, or an answer was not right.
    """
    workload = comparison.workload
    with contextlib.ExitStack() as stack:
        running_servers: dict[int, RunningServer] = {}
        for place in turns.order(number):
            revision = revisions[place]
            server = bench.run_server(comparison.form, workload.model, root=revision.root, settings=revision.settings)
            running_servers[place] = stack.enter_context(server)
        for place in turns.order(number):
            workload.turn(bench, running_servers[place])
        measured = []
        for pair in range(pairs):
            found = {place: workload.turn(bench, running_servers[place]) for place in turns.order(number + pair)}
            measured.append((found[0], found[1]))
        return measured


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    available = sorted(os.sched_getaffinity(0))
    bench = Bench(client_core=available[-1] if len(available) > 1 else None)
    comparisons = [Comparison(FORMS[form], WORKLOADS[name]) for form in given.form for name in given.scenario]
    with tempfile.TemporaryDirectory(prefix="llmactors-compare-") as directory:
        try:
            revisions = _exported(given.revisions, Path(directory))
        except RevisionError as error:
            raise SystemExit(f"bench.compare: {error}") from error
        facts = machine.facts() | {"client_core": bench.client_core}
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
        machine_use = machine.MachineUse()
        print(f"This takes about {estimate_s(comparisons, given.rounds, given.seconds) / 60:.1f} minutes.", flush=True)
        interrupted = False
        try:
            compare(bench, revisions, comparisons, rounds=given.rounds, seconds=given.seconds, limit_s=given.limit_s)
        except KeyboardInterrupt:
            interrupted = True
            print("\nInterrupted: these are the figures of the rounds so far.")
    facts |= machine_use.report()
    print(report(comparisons, revisions))
    if given.json is not None:
        found = as_json(comparisons, revisions, facts)
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if interrupted:
        raise SystemExit(130)
    if any(each.errors for each in comparisons):
        raise SystemExit(1)


def estimate_s(comparisons: Sequence[Comparison], rounds: int, seconds: float) -> float:
    """The approximate time that `compare` takes on an idle machine."""
    turn_s = [pairs_of(each.workload, seconds) * (each.workload.turn_s + TURN_OVERHEAD_S) for each in comparisons]
    return 2 * rounds * (sum(turn_s) + START_S * len(comparisons))


def _exported(names: Sequence[str | None], directory: Path) -> tuple[Revision, Revision]:
    first, second = (export(name, directory / place) for name, place in zip(names, ("first", "second"), strict=True))
    for revision in (first, second):
        print(f"{revision.name} ({revision.title}): servers import {check_import(revision)}")
    print(f"The load client of both is that of {ROOT}.")
    return first, second


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description="Compare CPU time and latency of two commits of this project."
    )
    parser.add_argument("first", metavar="REV", help="a commit: branch, tag or hash")
    parser.add_argument("second", metavar="REV2", nargs="?", help="another commit [the working tree]")
    parser.add_argument("--form", choices=(*FORMS, "both"), default="both", help="one process, over Redis, or both")
    parser.add_argument(
        "--scenario", type=_workloads, default=tuple(WORKLOADS), help=f"some of {','.join(WORKLOADS)} [all]"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"rounds, each with fresh servers [{ROUNDS}, or as many as {LIMIT_S / 60:g} minutes allow]",
    )
    parser.add_argument("--seconds", type=float, help=f"load on each revision, per scenario and round [{SECONDS:g}]")
    parser.add_argument("--quick", action="store_true", help="fewer turns: about 90 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    given = parser.parse_args()
    given.revisions = (given.first, given.second)
    given.form = tuple(FORMS) if given.form == "both" else (given.form,)
    given.limit_s = LIMIT_S if given.rounds is None else None
    given.rounds = (QUICK_ROUNDS if given.quick else ROUNDS) if given.rounds is None else given.rounds
    given.seconds = (QUICK_SECONDS if given.quick else SECONDS) if given.seconds is None else given.seconds
    if not 1 <= given.rounds <= 100:
        parser.error(f"--rounds must be from 1 to 100, not {given.rounds}")
    if not 0.1 <= given.seconds <= 30:
        parser.error(f"--seconds must be from 0.1 to 30, not {given.seconds:g}")
    if given.json is not None and not given.json.parent.is_dir():
        parser.error(f"--json: there is no directory {given.json.parent}")
    return given


def _workloads(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise argparse.ArgumentTypeError(f"unknown scenario {', '.join(unknown)}: choose from {', '.join(WORKLOADS)}")
    return names


if __name__ == "__main__":
    main()
