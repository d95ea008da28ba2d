"""Simulates whole clusters under faults, each run from a seed.

    python -m tests.simulation                       # 100 seeds: a minute or two
    python -m tests.simulation --seeds 2000
    python -m tests.simulation --seed 17             # one seed again, with its schedule and its log
    python -m tests.simulation --seed 17 --keep 0,3  # with two faults of its schedule
    python -m tests.simulation --theme silences      # seeds of one theme, and of all others none

Each seed runs in a process of its own, so that a seed does the same wherever it stands in a series. Where a seed fails,
its schedule is made smaller, and the command that replays what is left is printed. The program exits with 1 then.
"""

import argparse
import functools
import gc
import logging
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence

if os.environ.get("PYTHONHASHSEED") != "0":
    # The order of sets of texts follows from this, and it must be chosen before Python starts.
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

from tests.simulation import determinism

determinism.install()  # before llmactors is imported

import structlog  # noqa: E402

from tests.simulation.contract import run_contract  # noqa: E402
from tests.simulation.faults import KINDS, PAUSE  # noqa: E402
from tests.simulation.seeds import SeedResult, SeedSettings, run_seed, shrink  # noqa: E402
from tests.simulation.store import Store  # noqa: E402
from tests.simulation.themes import THEMES  # noqa: E402

_LIMIT_S = 300.0
"""How long one seed may take, in real time."""
_COLLECT_EVERY = 100_000
"""After how many new objects garbage is collected. A process that runs one seed has little, and ends soon."""


def _run(settings: SeedSettings, seed_and_places: tuple[int, Sequence[int] | None]) -> SeedResult:
    seed, places = seed_and_places
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
    with Store(settings.binary) as store:
        return run_seed(store, seed, settings, places)


class Runner:
    """Runs seeds in processes of their own, `jobs` at a time."""

    def __init__(self, settings: SeedSettings, jobs: int) -> None:
        self.settings = settings
        self._run = functools.partial(_run, settings)
        self._jobs = jobs

    def results(self, work: Sequence[tuple[int, Sequence[int] | None]]) -> list[SeedResult]:
        """The results on seeds, each with the places of the faults to keep, or None for all."""
        # A process of the pool runs one seed, and is forked from this process, which has run none.
        with multiprocessing.get_context("fork").Pool(self._jobs, maxtasksperchild=1) as pool:
            found = pool.imap(self._run, work)
            return [found.next(timeout=_LIMIT_S) for _ in work]

    def result(self, seed: int, places: Sequence[int] | None) -> SeedResult:
        """The result on one seed."""
        return self.results([(seed, places)])[0]


def _show_failure(result: SeedResult, runner: Runner) -> None:
    print(f"\nseed {result.seed}, {result.plan.theme}, FAILED: {'; '.join(result.outcome.complaints)}")
    print(*(f"  {text}" for text in result.outcome.order.violations[:3]), sep="\n", end="")
    print(f"  {result.outcome.report}\n  {result.outcome.content}")

    def fails(places: Sequence[int]) -> bool:
        return bool(runner.result(result.seed, places).outcome.complaints)

    places = range(len(result.plan.schedule))
    kept = shrink(places, fails) if fails(places) else list(places)
    print("  the faults that are needed:")
    for place in kept:
        print(f"    {result.plan.schedule[place]}")
    print(f"  replay: {runner.settings.replay(result.seed, kept)}")


def _show_series(results: Sequence[SeedResult]) -> None:
    strikes: Counter[str] = Counter()
    for result in results:
        strikes.update(result.outcome.strikes)
    reports = [result.outcome.report for result in results]
    broken: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for report in reports:
        broken.update(report.broken)
        failures.update(report.failures)
    print(f"{len(results)} seeds, {sum(bool(result.outcome.complaints) for result in results)} of them failed")
    print(f"faults: {', '.join(f'{count:,} {kind}' for kind, count in strikes.most_common()) or 'none'}")
    print(f"pauses of everything: {strikes[PAUSE]:,}; requests that were given up: {failures['POISONED']}")
    accepted, tokens = (sum(getattr(report, name) for report in reports) for name in ("accepted", "tokens"))
    print(
        f"{accepted:,} requests, {tokens:,} tokens, "
        f"lost {broken['lost'] + broken['lost_requests']}, repeated {broken['repeated']}, wrong {broken['wrong']}"
    )
    contents = [result.outcome.content for result in results]
    calls, right, content_tokens, resumed = (
        sum(getattr(each, name) for each in contents) for name in ("calls", "whole", "tokens", "resumed")
    )
    found_kinds = {kind for each in contents for kind in each.kinds}
    print(
        f"{calls:,} calls of {len(found_kinds)} kinds, {right:,} of them right, {content_tokens:,} tokens, "
        f"{resumed:,} times asked for again; {sum(result.outcome.readings for result in results):,} visits"
    )
    orders = [result.outcome.order for result in results]
    print(
        f"as the server saw it: {sum(order.written for order in orders):,} entries written, "
        f"{sum(order.late for order in orders):,} late appends fenced, "
        f"{sum(len(order.violations) for order in orders)} written under an epoch that was over"
    )
    cpu_s = sum(result.outcome.cpu_s for result in results)
    virtual_s = sum(result.outcome.virtual_s for result in results)
    print(
        f"{virtual_s:,.0f} virtual seconds, {sum(result.outcome.commands for result in results):,} commands, "
        f"{cpu_s:.0f} s of CPU: {60 * len(results) / max(cpu_s, 0.01):.0f} seeds per CPU minute"
    )


def _run_until_failure(seeds: Sequence[int], runner: Runner) -> int:
    for seed in seeds:
        result = runner.result(seed, None)
        if result.outcome.complaints:
            print(f"seed {seed}, {result.plan.theme}, FAILED: {'; '.join(result.outcome.complaints)}")
            return 1
    print(f"{len(seeds)} seeds, 0 of them failed")
    return 0


def _places(text: str) -> list[int]:
    return [] if text == "none" else [int(part) for part in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds [100]")
    parser.add_argument("--first", type=int, default=1, help="the first seed [1]")
    parser.add_argument("--seed", type=int, help="run this seed alone, and show its schedule and its log")
    parser.add_argument(
        "--keep", type=_places, help="with --seed: the places of the faults to keep, as in 0,3; or none"
    )
    parser.add_argument(
        "--theme", action="append", default=[], choices=THEMES, help="only seeds of this theme; may be repeated"
    )
    parser.add_argument(
        "--kind", action="append", default=[], choices=sorted(KINDS), help="only this kind of fault; may be repeated"
    )
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many seeds run at a time")
    parser.add_argument("--binary", help="the program of the server [any that is found]")
    parser.add_argument(
        "--contract",
        type=int,
        metavar="N",
        help="run the contract of the ledger over the simulated network instead, with N examples of its state machine",
    )
    given = parser.parse_args(argv)
    if given.contract is not None:
        return run_contract(given.contract)
    settings = SeedSettings(themes=tuple(given.theme), kinds=tuple(given.kind), binary=given.binary)
    if given.seed is not None:
        result = _run(settings, (given.seed, given.keep))
        print(f"{result.plan.theme}: {result.plan.world}")
        print(*(f"  {fault}" for fault in result.plan.schedule), sep="\n")
        print(f"trace {result.outcome.trace}\n{result.outcome.report}\n{result.outcome.content}")
        print("; ".join(result.outcome.complaints) or "good")
        return 1 if result.outcome.complaints else 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    runner = Runner(settings, given.jobs)
    seeds = range(given.first, given.first + given.seeds)
    if given.until_failure:
        return _run_until_failure(seeds, runner)
    results = runner.results([(seed, None) for seed in seeds])
    failed = [result for result in results if result.outcome.complaints]
    for result in failed[:5]:
        _show_failure(result, runner)
    for result in failed[5:]:
        print(f"seed {result.seed} FAILED: {'; '.join(result.outcome.complaints)}")
    _show_series(results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
