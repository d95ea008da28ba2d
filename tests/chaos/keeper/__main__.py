"""Kill -9 and upgrades of a gateway under a keeper, with clients that never reconnect, and every byte compared.

    python -m tests.chaos.keeper                              # 20 kills and 5 upgrades under 332 clients
    python -m tests.chaos.keeper --kills 1000 --upgrades 100
    python -m tests.chaos.keeper --no-keeper                  # the same load without a keeper: answers must be cut
    python -m tests.chaos.keeper --only openai --only curl    # some clients alone

One gateway and one worker run over a Redis server that writes each append to the disk. Sockets, curl, httpx, openai,
Chromium and WebSockets ask for answers of all shapes, whole and as streams. The gateway is killed at a random moment
whenever another one is warm. The program exits with 1 if a connection was cut or refused, or if a byte was lost,
repeated or wrong; with `--no-keeper`, if none was.
"""

import argparse
import functools
import math
import signal
import sys
import time
from collections.abc import Sequence

import trio

from tests.chaos.keeper.report import lines_of
from tests.chaos.keeper.run import Choices, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.keeper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--upgrades", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="run this share of the clients [1]")
    parser.add_argument("--only", action="append", default=[], help="run clients whose kinds contain this text")
    parser.add_argument("--no-keeper", action="store_true", help="run the gateway alone, and expect answers to be cut")
    parser.add_argument("--step-ms", type=int, default=200, help="the time between two tokens [200]")
    parser.add_argument("--tokens", type=int, default=40, help="the tokens of each answer [40]")
    parser.add_argument("--seed", type=int, default=1, help="chooses the moments [1]")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no more kills after so many minutes")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what this started must end with it
    choices = Choices(
        kills=given.kills,
        upgrades=0 if given.no_keeper else given.upgrades,
        share=given.share,
        only=given.only,
        keeper=not given.no_keeper,
        step_s=given.step_ms / 1000,
        tokens=given.tokens,
        seed=given.seed,
        minutes=given.minutes,
    )
    begun = time.monotonic()
    outcome = trio.run(functools.partial(run, choices))
    for line in lines_of(outcome, choices.step_s):
        print(line)
    print(f"{time.monotonic() - begun:.0f} s")
    is_right = not outcome.faults and all(strike.kind in {"kill -9", "upgrade"} for strike in outcome.strikes)
    return 0 if is_right == choices.keeper else 1


if __name__ == "__main__":
    sys.exit(main())
