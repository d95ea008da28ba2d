"""Runs the command line with a wall clock that is wrong by `CLOCK_SHIFT_S` seconds, as on a machine without NTP."""

import os
import time

_SHIFT_S = int(os.environ["CLOCK_SHIFT_S"])
_time, _time_ns = time.time, time.time_ns

if __name__ == "__main__":
    time.time = lambda: _time() + _SHIFT_S
    time.time_ns = lambda: _time_ns() + _SHIFT_S * 10**9

    from llmactors.cli import main

    main()
