"""Measure llmactors beside its peers on this machine, in interleaved rounds, and show which targets are reached.

    python -m bench.run                     # all servers and scenarios: about 35 minutes; writes bench/results/
    python -m bench.run --quick             # llmactors and the original design only: under a minute
    python -m bench.run --scenario saturate --only llmactors,origin --rounds 1

The servers may use all cores. The load client runs in a process of its own, on the last core if there are several. Each
round starts each server afresh, and the servers take turns, so that a slow phase of the machine affects all of them.
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
from bench.peers import environments
from bench.results import ScenarioResult
from bench.scenario import Bench, Round, Scenario
from bench.scenarios import SCENARIOS
from bench.servers import ALONE, CLUSTER, NAMES

OUT = Path(__file__).resolve().parent / "results"
QUICK = ("saturate", "idle")
QUICK_NAMES = (ALONE, CLUSTER, "origin")
SIZES = {f"{each.name}.{name}": size for each in SCENARIOS.values() for name, size in each.sizes.items()}
"""The sizes of all scenarios."""


def run_scenario(bench: Bench, scenario_result: ScenarioResult, rounds: int) -> None:
    """Measure all rounds of one scenario. A failure of one server is recorded, and the other servers go on."""
    scenario, found, errors = scenario_result.scenario, scenario_result.rounds, scenario_result.errors
    for number in range(1, rounds + 1):
        for name in found:
            begun = time.monotonic()
            machine_use = machine.MachineUse()
            try:
                round_ = scenario.measure(bench, name, found[name])
            except (RuntimeError, OSError, httpx.HTTPError, ExceptionGroup) as error:
                errors.setdefault(name, []).append(f"round {number}: {error}")
                summary = f"FAILED: {error}"
            else:
                found[name].append(round_ | {"machine_use": machine_use.report()})
                summary = _short(scenario, round_)
            print(
                f"{scenario.name} {number}/{rounds} {name:16} {time.monotonic() - begun:5.1f} s  {summary}", flush=True
            )


def _short(scenario: Scenario, round_: Round) -> str:
    values = [(figure, figure.of(round_)) for figure in results.figures_to_draw(scenario)]
    parts = [f"{figure.title} {value:,.1f} {figure.unit}".strip() for figure, value in values if value is not None][:4]
    if round_.get("failed"):
        parts.append(f"{round_['failed']} FAILED: {round_.get('errors', '')} {round_.get('examples', '')}")
    return ", ".join(parts)


def write(out: Path, scenario_results: Sequence[ScenarioResult], facts: dict[str, Any]) -> None:
    """Write `latest.json`, `RESULTS.md` and a picture for each scenario to the directory `out`."""
    from bench import plots  # noqa: PLC0415 - matplotlib is slow to import, and may be missing

    out.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": facts,
        "targets": [
            {"server": each.server, **attrs.asdict(each.target), "value": each.value, "reached": each.reached}
            for each in results.target_results(scenario_results)
        ],
        "scenarios": {scenario_result.scenario.name: scenario_result.json() for scenario_result in scenario_results},
    }
    (out / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    drawn = plots.draw(scenario_results, out)
    (out / "RESULTS.md").write_text(results.markdown(scenario_results, facts, drawn), encoding="utf-8")
    print(f"\nWritten: {out / 'RESULTS.md'}, {out / 'latest.json'} and {len(drawn)} pictures")


def versions(names: Sequence[str], envs: Path | None) -> dict[str, dict[str, str]]:
    """The versions of everything that is measured. Peers that are missing are installed."""
    peers = [name for name in names if name in {*environments.PEERS, *environments.PROXIES}]
    return {"llmactors": machine.own_versions(), **{peer: environments.versions(peer, envs) for peer in peers}}


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    available = sorted(os.sched_getaffinity(0))
    client_core = available[-1] if len(available) > 1 else None
    bench = Bench(quick=given.quick, client_core=client_core, envs=given.envs, sizes=dict(given.size))
    begun = time.monotonic()
    facts = machine.facts() | {"client_core": bench.client_core, **bench.sizes}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    needed = {server for name in given.scenario for server in SCENARIOS[name].servers}
    facts["versions"] = versions([name for name in given.only if name in needed], given.envs)
    scenario_results: list[ScenarioResult] = []
    machine_use = machine.MachineUse()
    interrupted = False
    try:
        for name in given.scenario:
            scenario = SCENARIOS[name]
            names = [each for each in given.only if each in scenario.servers]
            rounds = given.rounds or (1 if given.quick else scenario.rounds)
            scenario_results.append(ScenarioResult(scenario, {each: [] for each in names}, {}))
            run_scenario(bench, scenario_results[-1], rounds)
    except (KeyboardInterrupt, BaseExceptionGroup):  # Trio raises KeyboardInterrupt in a group
        interrupted = True
        print("\nInterrupted: these are the figures of the rounds so far.")
    facts |= {
        "seconds": round(time.monotonic() - begun),
        **machine_use.report(),
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
    }
    print(results.target_lines(results.target_results(scenario_results)))
    if given.out is not None:
        write(given.out, scenario_results, facts)
    if interrupted:
        raise SystemExit(130)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure llmactors beside its peers on this machine.")
    parser.add_argument("--scenario", type=_list_of(SCENARIOS), help=f"some of {','.join(SCENARIOS)} [all]")
    parser.add_argument("--only", type=_list_of(NAMES), help=f"servers, some of {','.join(NAMES)} [all]")
    parser.add_argument("--rounds", type=int, help="rounds of each scenario [mostly 3, as the scenario says]")
    parser.add_argument(
        "--quick", action="store_true", help="one short round of two scenarios, beside the original design only"
    )
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        default=[],
        metavar="SCENARIO.NAME=NUMBER",
        help=f"change a size; repeatable. {', '.join(f'{name}={size}' for name, size in SIZES.items())}",
    )
    parser.add_argument("--envs", type=Path, help="directory of the peers' Python environments [the user's cache]")
    parser.add_argument("--out", type=Path, help=f"directory for the results [{OUT}; none with --quick]")
    given = parser.parse_args()
    given.scenario = given.scenario or (QUICK if given.quick else tuple(SCENARIOS))
    given.only = given.only or (QUICK_NAMES if given.quick else NAMES)
    if given.out is None and not given.quick:
        given.out = OUT
    if given.rounds is not None and given.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {given.rounds}")
    return given


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if name not in SIZES or not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=NUMBER, with a name of {', '.join(SIZES)}")
    return name, int(number)


def _list_of(known: Any) -> Any:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if unknown := [name for name in given if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
        return given

    return names


if __name__ == "__main__":
    main()
