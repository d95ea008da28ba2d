"""Prints how large a cluster must be for a load, or measures what the steps cost on this machine.

`python -m bench.sizing --measure` measures, tests the model with larger clusters, and writes the costs to
`bench/artifacts/costs.json`.
`python -m bench.sizing --streams 1000000` reads that file and prints the plan.
"""

import argparse
import sys
from pathlib import Path

import attrs
import msgspec

from bench.processes import ROOT
from bench.sizing.fit import Run, fitted
from bench.sizing.measure import FITTED, TESTED, runs
from bench.sizing.model import PARTS, Costs, Load, StepCosts, us_per_token
from bench.sizing.plan import Bounds, Plan, cells, plan

COSTS = ROOT / "bench" / "artifacts" / "costs.json"


def main(arguments: list[str]) -> int:
    """Runs the command line, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.sizing", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the costs of the steps on this machine")
    parser.add_argument("--costs", type=Path, default=COSTS, help="the file of the costs")
    parser.add_argument("--streams", type=int, default=1_000_000, help="streams at a time")
    parser.add_argument("--tokens-per-s", type=float, default=20.0, help="of each stream")
    parser.add_argument("--tokens", type=float, default=500.0, help="of each request")
    parser.add_argument("--slots", type=int, default=Bounds().slots, help="streams that a worker runs at once")
    options = parser.parse_args(arguments)
    if options.measure:
        options.costs.write_bytes(msgspec.json.format(msgspec.json.encode(_measured())) + b"\n")
    try:
        costs = msgspec.json.decode(options.costs.read_bytes(), type=StepCosts)
    except FileNotFoundError:
        parser.error(f"there is no file {options.costs}: measure the costs with --measure")
    load = Load(options.streams, options.tokens_per_s, options.tokens)
    bounds = Bounds(slots=options.slots)
    try:
        print("one cluster:", _text(plan(costs, load, bounds)))
    except ValueError as error:
        print("one cluster:", error)
    try:
        count, each = cells(costs, load, bounds)
    except ValueError as error:
        parser.error(str(error))
    print(f"{count} clusters, {count * each.cores:.0f} cores in all; each: {_text(each)}")
    return 0


def _measured() -> StepCosts:
    known = list(runs(FITTED))
    costs = fitted(known)
    print(f"{'cost, us':10}", *(f"{field.name:>10}" for field in attrs.fields(Costs)))
    for part in PARTS:
        print(f"{part:10}", *(f"{value:10.1f}" for value in attrs.astuple(costs[part])))
    print("\nCPU per token, us:  cluster  streams  tokens  measured  model   model / measured")
    for run in known:
        _show(run, costs, "fitted")
    for run in runs(TESTED):
        _show(run, costs, "tested")
    return costs


def _show(run: Run, costs: StepCosts, what: str) -> None:
    if run.load is None:
        return
    measured = 1e6 * sum(run.cpu_s.values()) / (run.load.streams * run.load.tokens_per_s * run.seconds)
    said = us_per_token(costs, run.cluster, run.load)
    name = f"{run.cluster!s:>8} {run.load.streams:8} {run.load.tokens:7.0f}"
    print(f"{what:18} {name} {measured:9.1f} {said:6.1f} {said / measured:17.2f}")


def _text(made: Plan) -> str:
    cluster, busy = made.cluster, made.busy
    parts = ", ".join(f"{part} {busy[part]:.1f}" for part in PARTS)
    return (
        f"{cluster.gateways} gateways, {cluster.workers} workers, {cluster.shards} Redis; "
        f"{made.cores:.1f} cores ({parts}), {1e6 * made.cores / (made.load.streams * made.load.tokens_per_s):.0f} us "
        f"per token; {made.gateway_bytes / 1e6:.0f} MB of streams in a gateway, {made.redis_bytes / 1e6:.0f} MB and "
        f"{made.redis_file_bytes_per_s / 1e6:.1f} MB/s of file in a Redis"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
