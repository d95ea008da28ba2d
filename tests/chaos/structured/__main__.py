"""Kill -9 behind every 5th token of answers with schemas and calls of tools.

    python -m tests.chaos.structured              # every case: about two minutes
    python -m tests.chaos.structured --every 1    # behind every token
    python -m tests.chaos.structured click plan   # cases whose names contain one of these texts

Two gateways and two workers run over a Redis server of the program's own. All answers are made at once. A mock stops
behind every 5th token, so that one kill of both workers cuts each answer behind exactly that token. In each second
round a gateway is killed too, and its clients follow their streams at the other gateway. The program exits with 1 if
an answer is not valid, differs from the undisturbed one, was sent differently by another gateway, or was not cut behind
every 5th token.
"""

import argparse
import functools
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence

import trio

from llmactors.testing.schemas import SCHEMAS
from tests.chaos.structured.cases import all_cases
from tests.chaos.structured.run import Outcome, run


def _print(outcome: Outcome, seconds: float, *, every: int, shows_all: bool) -> None:
    readers = outcome.readers
    wrong = [reader for reader in readers if reader.problems]
    if shows_all:
        print(f"{'case':58} {'API':9} tokens  cut behind the tokens")
        for reader in readers:
            cuts = outcome.cuts_of(reader)
            tokens = outcome.ended[reader.request_id].tokens if reader.request_id in outcome.ended else 0
            print(f"{reader.case.name:58} {reader.case.api:9} {tokens:6}  {' '.join(map(str, cuts))}")
    names = {reader.case.name.rpartition(",")[0] for reader in readers}
    print(
        f"{len(names & SCHEMAS.keys())} schemas, {len(names - SCHEMAS.keys())} sets of tools, {len(readers)} requests"
    )
    kinds = Counter(f"{reader.case.api}, {reader.case.name.rpartition(', ')[2]}" for reader in readers)
    print("; ".join(f"{kind}: {count}" for kind, count in kinds.items()))
    print(f"kill -9: {outcome.workers_killed} of workers, {outcome.gateways_killed} of gateways")
    print(f"takeovers: {outcome.takeovers}, behind every token whose number is a multiple of {every}")
    places = Counter(cut for cuts in outcome.cuts.values() for cut in cuts)
    print("requests cut behind each token: " + ", ".join(f"{cut}: {places[cut]}" for cut in sorted(places)))
    print(f"streams followed at another gateway: {sum(reader.resumed for reader in readers)}")
    print(f"valid, equal to the undisturbed answer, and equal at both gateways: {len(readers) - len(wrong)}")
    for reader in wrong:
        print(f"WRONG: {reader.case.name} ({reader.case.api}): {'; '.join(reader.problems)[:400]}")
    for text in outcome.tracebacks:
        print(text)
    print(f"{seconds:.0f} s")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.structured", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", help="only cases whose names contain one of these texts")
    parser.add_argument("--every", type=int, default=5, help="kill behind every so many tokens [5]")
    parser.add_argument("--seed", type=int, default=1, help="chooses which gateways are killed [1]")
    parser.add_argument("--list", action="store_true", help="show each case with the tokens behind which it was cut")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what this started must end with it
    cases = [case for case in all_cases() if not given.names or any(name in case.name for name in given.names)]
    begun = time.monotonic()
    outcome = trio.run(functools.partial(run, cases, every=given.every, seed=given.seed))
    _print(outcome, time.monotonic() - begun, every=given.every, shows_all=given.list)
    return 1 if outcome.tracebacks or any(reader.problems for reader in outcome.readers) else 0


if __name__ == "__main__":
    sys.exit(main())
