"""Kill -9 under load, and then compare logs, usage records, their sums and what limits are charged.

    python -m tests.chaos.usage                             # 1000 kills: about three minutes
    python -m tests.chaos.usage --kills 100 --seed 7
    python -m tests.chaos.usage --chaos-minutes 30          # at least so long

Two gateways and five workers with the mock run over a Redis server of the program's own. Clients read whole answers,
cancel, let deadlines pass and leave, all with the key of one tenant that has a limit of tokens per day. The processes
are forked from one that has imported everything, so that a restart is cheap. Redis is killed now and then too. The
program exits with 1 if any number differs from another.
"""

import argparse
import functools
import signal
import sys
import time
from collections.abc import Sequence

import trio

from tests.chaos.usage.run import MAY_FAIL, UsageOutcome, run_kills


def _print(outcome: UsageOutcome, seconds: float) -> None:
    print(outcome.report)
    print("other clients: " + ", ".join(f"{count:,} {way}" for way, count in outcome.ways.most_common()))
    print("codes of records: " + ", ".join(f"{count:,} {code}" for code, count in sorted(outcome.usage.codes.items())))
    print(outcome.usage)
    for text in (*outcome.left, *outcome.differences[:20], *outcome.tracebacks[:3]):
        print(f"WRONG: {text}")
    print(f"{outcome.kills:,} processes killed in {seconds:.0f} s, difference {len(outcome.differences)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs once, and prints what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.usage", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="how many processes are killed at least [1000]")
    parser.add_argument("--chaos-minutes", type=float, default=0.0, help="for how long at least [0]")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the faults and the load [1]")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what this started must end with it
    begun = time.monotonic()
    outcome = trio.run(functools.partial(run_kills, given.kills, given.chaos_minutes, given.seed))
    _print(outcome, time.monotonic() - begun)
    unexpected = set(outcome.report.failures) - MAY_FAIL
    broken = outcome.report.broken or outcome.differences or outcome.left or outcome.tracebacks or unexpected
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
