"""Strikes a real cluster with hundreds of faults, two at a time, and checks every token that its clients got.

    python -m tests.chaos.storm                                          # 500 faults on each kind of server
    python -m tests.chaos.storm --faults 1000 --server redis --seed 7
    python -m tests.chaos.storm --only failovers --faults 10

A storm has three parts, each with a cluster of its own: faults by which Redis loses nothing (three quarters), faults by
which Redis loses what it had acknowledged, and failovers to a replica. In the first part every request ends with its
whole answer, and the usage records agree. In the others a request may end with an error that says what was lost. In no
part is a token lost in the middle, repeated or wrong, and no request is convicted. The program exits with 1 otherwise.
"""

import argparse
import functools
import signal
import sys
from collections.abc import Sequence

import trio

from llmactors.redislink.binary import server_binaries
from tests.chaos.storm.run import Kind, storm
from tests.chaos.storm.table import lines_of

_SHARES: dict[Kind, float] = {"kept": 0.76, "lost": 0.21, "failovers": 0.03}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the storms, and prints a table for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=500, help="how many faults strike each kind of server [500]")
    parser.add_argument("--server", choices=["redis", "valkey", "both"], default="both", help="the server [both]")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the faults and the load [1]")
    parser.add_argument("--only", choices=list(_SHARES), help="one part alone, with all faults")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what this started must end with it
    binaries = server_binaries()
    is_right = True
    for server in sorted(binaries) if given.server == "both" else [given.server]:
        for kind, share in _SHARES.items():
            if given.only not in {None, kind}:
                continue
            faults = given.faults if given.only else max(2, round(given.faults * share))
            run = functools.partial(storm, kind, faults=faults, seed=given.seed, binary=binaries[server])
            outcome = trio.run(run)
            is_right = is_right and outcome.is_right
            print(f"\n{server}, {kind}", *lines_of(outcome), sep="\n", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
