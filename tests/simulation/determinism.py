"""The virtual time in place of the system's clocks, and seeded randomness in place of the system's.

Call `install` before anything of llmactors is imported, since some functions have a clock as a default argument.
"""

import random
import secrets
import time
from collections.abc import Callable
from typing import Any

import trio

BEGIN_S = 1_700_000_000.0
"""The time since 1970 at which each simulation begins."""

_THREAD_S = 0.004
"""The longest time that work in a thread takes here."""

_random = random.Random()
_system = {"time": time.time, "monotonic": time.monotonic}
_skew_s: Callable[[], float] = lambda: 0.0  # noqa: E731 - a default


def install() -> None:
    """Replaces the clocks and the randomness of this process."""
    time.time = lambda: _now(BEGIN_S, "time") + _skew_s()
    time.monotonic = lambda: _now(0.0, "monotonic")
    time.time_ns = lambda: int(time.time() * 1e9)
    secrets.token_bytes = lambda nbytes=32: _random.randbytes(nbytes or 32)
    secrets.token_hex = lambda nbytes=32: secrets.token_bytes(nbytes).hex()
    secrets.choice = _random.choice
    random.Random = _SeededRandom  # type: ignore[misc]
    trio.to_thread.run_sync = _run_without_a_thread  # type: ignore[assignment]
    # As pytest-trio and Hypothesis do; without this, tasks that can run together run in an unseeded order.
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]


def seed(number: int) -> None:
    """Begins a simulation: all that is random follows from `number`."""
    _random.seed(number)
    random.seed(number)
    trio._core._run._r.seed(number)


def skew_clocks(skew_s: Callable[[], float]) -> None:
    """Sets `time.time` wrong by what `skew_s` returns where it is called. `time.monotonic` stays right."""
    global _skew_s  # noqa: PLW0603 - there is one clock
    _skew_s = skew_s


async def _run_without_a_thread(work: Callable[..., Any], *args: Any, **_how: Any) -> Any:
    """Takes the place of a thread, whose result would come at a time that no seed decides."""
    await trio.sleep(_random.uniform(0.0, _THREAD_S))
    return work(*args)


class _SeededRandom(random.Random):
    """A generator that asks the simulation for a seed where none is given, instead of the system."""

    def __init__(self, x: float | str | bytes | bytearray | None = None) -> None:
        super().__init__(_random.getrandbits(64) if x is None else x)


def _now(begin_s: float, name: str) -> float:
    try:
        return begin_s + trio.current_time()
    except RuntimeError:  # outside of a simulation
        return _system[name]()
