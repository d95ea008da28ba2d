"""llmactors beside its peers on this machine: interleaved rounds, medians and ranges, and what targets are reached.

    python -m bench.run                     # everything: about 35 minutes; writes bench/results/
    python -m bench.run --quick             # llmactors and the origin's design: under a minute
    python -m bench.run --scenario saturate --only llmactors,origin --rounds 1

The servers may use all cores; the load client runs in a process of its own, on the last core where there are two. Every
contestant is started afresh for each round, and they take turns, so that a busy moment of the machine hits all of them.
"""

import argparse
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import msgspec

from bench import machine, results
from bench.contestants import ALONE, CLUSTER, NAMES
from bench.peers import environments
from bench.results import Outcome
from bench.scenario import Bench, Round, Scenario
from bench.scenarios import SCENARIOS

OUT = Path(__file__).resolve().parent / "results"
QUICK = ("saturate", "idle")
QUICK_NAMES = (ALONE, CLUSTER, "origin")


def run_scenario(bench: Bench, outcome: Outcome, rounds: int) -> None:
    """All rounds of one scenario. What goes wrong with one contestant is noted, and the others go on."""
    scenario, found, errors = outcome.scenario, outcome.rounds, outcome.errors
    for number in range(1, rounds + 1):
        for name in found:
            begun = time.monotonic()
            weather = machine.Weather()
            try:
                round_ = scenario.measure(bench, name, found[name])
            except (RuntimeError, OSError, httpx.HTTPError, ExceptionGroup) as error:
                errors.setdefault(name, []).append(f"round {number}: {error}")
                said = f"FAILED: {error}"
            else:
                found[name].append(round_ | {"weather": weather.report()})
                said = _short(scenario, round_)
            print(f"{scenario.name} {number}/{rounds} {name:16} {time.monotonic() - begun:5.1f} s  {said}", flush=True)


def _short(scenario: Scenario, round_: Round) -> str:
    values = [(figure, figure.of(round_)) for figure in results.figures_to_draw(scenario)]
    parts = [f"{figure.title} {value:,.1f} {figure.unit}".strip() for figure, value in values if value is not None][:4]
    if round_.get("failed"):
        parts.append(f"{round_['failed']} WENT WRONG: {round_.get('errors', '')} {round_.get('examples', '')}")
    return ", ".join(parts)


def write(out: Path, outcomes: Sequence[Outcome], facts: dict[str, Any]) -> None:
    """`latest.json`, `RESULTS.md`, and a picture for each scenario."""
    from bench import plots  # noqa: PLC0415 - matplotlib is slow to import, and not everybody has it

    out.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": facts,
        "targets": [
            {"contestant": each.contestant, **attrs.asdict(each.target), "value": each.value, "reached": each.reached}
            for each in results.judgements(outcomes)
        ],
        "scenarios": {outcome.scenario.name: outcome.json() for outcome in outcomes},
    }
    (out / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    drawn = plots.draw(outcomes, out)
    (out / "RESULTS.md").write_text(results.markdown(outcomes, facts, drawn), encoding="utf-8")
    print(f"\nwritten: {out / 'RESULTS.md'}, {out / 'latest.json'} and {len(drawn)} pictures")


def versions(names: Sequence[str], envs: Path | None) -> dict[str, dict[str, str]]:
    """What was measured; installs what is missing."""
    peers = [name for name in names if name in environments.PEERS]
    return {"llmactors": machine.own_versions(), **{peer: environments.versions(peer, envs) for peer in peers}}


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    available = sorted(os.sched_getaffinity(0))
    bench = Bench(quick=given.quick, client_core=available[-1] if len(available) > 1 else None, envs=given.envs)
    begun = time.monotonic()
    facts = machine.facts() | {"client_core": bench.client_core}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    facts["versions"] = versions(given.only, given.envs)
    outcomes: list[Outcome] = []
    weather = machine.Weather()
    broken_off = False
    try:
        for name in given.scenario:
            scenario = SCENARIOS[name]
            names = [each for each in given.only if each in scenario.contestants]
            rounds = given.rounds or (1 if given.quick else scenario.rounds)
            outcomes.append(Outcome(scenario, {each: [] for each in names}, {}))
            run_scenario(bench, outcomes[-1], rounds)
    except (KeyboardInterrupt, BaseExceptionGroup):  # Trio hands them on in groups
        broken_off = True
        print("\nbroken off: the rounds so far")
    facts |= {
        "seconds": round(time.monotonic() - begun),
        **weather.report(),
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
    }
    print(results.verdicts(results.judgements(outcomes)))
    if given.out is not None:
        write(given.out, outcomes, facts)
    if broken_off:
        raise SystemExit(130)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure llmactors beside its peers.")
    parser.add_argument("--scenario", type=_list_of(SCENARIOS), help=f"of {','.join(SCENARIOS)} [all]")
    parser.add_argument("--only", type=_list_of(NAMES), help=f"of {','.join(NAMES)} [all]")
    parser.add_argument("--rounds", type=int, help="[as the scenario says, mostly 3]")
    parser.add_argument("--quick", action="store_true", help="one short round of two scenarios, beside the origin only")
    parser.add_argument("--envs", type=Path, help="where the peers' environments are [the user's cache]")
    parser.add_argument("--out", type=Path, help=f"where to write [{OUT}; nothing with --quick]")
    given = parser.parse_args()
    given.scenario = given.scenario or (QUICK if given.quick else tuple(SCENARIOS))
    given.only = given.only or (QUICK_NAMES if given.quick else NAMES)
    if given.out is None and not given.quick:
        given.out = OUT
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds begins at 1")
    return given


def _list_of(known: Any) -> Any:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return given

    return names


if __name__ == "__main__":
    main()
