"""A whole measurement, from the warm-up to the report."""

import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import attrs

from llmactors.errors import ConfigError, Unavailable
from llmactors.load.engine import Engine
from llmactors.load.plan import Plan
from llmactors.load.processes import ProcessUsage, check_processes, costs
from llmactors.load.report import report
from llmactors.load.snapshot import RunSnapshot
from llmactors.load.target import Target

WARMUP_TOKENS = 16
WARMUP_S = 5.0
_KNOCK_S = 5.0
_BUSY = 0.9
_LATE_S = 0.010


def measure(
    plan: Plan,
    *,
    warmup: int = 0,
    server_pids: Sequence[int] = (),
    on_progress: Callable[[RunSnapshot], None] | None = None,
) -> dict[str, Any]:
    """Warms up, runs the plan, checks all answers, and returns the report. SIGINT ends the run, not the process.

    Raises:
        Unavailable: No server listens at the target.
        ConfigError: There are not enough file descriptors, or no such process.
    """
    _allow_files(plan.clients)
    check_processes(server_pids)
    _knock(plan.target)
    if warmup:
        small = attrs.evolve(plan, requests=warmup, clients=min(plan.clients, warmup), rate=None, prompt="warm-up")
        Engine(
            attrs.evolve(
                small,
                max_tokens=min(plan.max_tokens, WARMUP_TOKENS),
                ramp_s=0.0,
                seconds=None,
                limit_s=min(plan.limit_s, WARMUP_S),
            )
        ).run()
    engine = Engine(plan, on_progress)
    with quiet(engine.interrupt):
        before = ProcessUsage.of(server_pids)
        own_before = time.process_time()
        engine.run()
        own_cpu_s = time.process_time() - own_before
        after = ProcessUsage.of(server_pids)
    engine.answers.check()
    result = report(
        plan.described(),
        engine.answers.tally,
        seconds=engine.seconds,
        ended=engine.ended,
        client={
            "cpu_s": own_cpu_s,
            "busy": own_cpu_s / engine.seconds,
            "cores": sorted(os.sched_getaffinity(0)),
            "checked_early": engine.answers.checked_early,
            "connections": engine.connections,
            "received_bytes": engine.received_bytes,
        },
    )
    if plan.rate is not None:
        result["open_loop"] = _open_loop(engine, result)
    result["warnings"] = warnings(result)
    if server_pids:
        result["server"] = costs(
            before,
            after,
            seconds=engine.seconds,
            correct=result["correct"],
            tokens=result["tokens"],
        )
    return result


def _open_loop(engine: Engine, result: dict[str, Any]) -> dict[str, Any]:
    late = engine.late.summary()
    return {
        "rate": engine.plan.rate,
        "sent": engine.late.count,
        "late_s": late,
        "held_back": engine.held_back,
        "kept_up": bool(late) and late["p99"] <= _LATE_S and result["client"]["busy"] <= _BUSY,
    }


def warnings(result: dict[str, Any]) -> list[str]:
    """The reasons for which the figures may describe the client more than the server."""
    found: list[str] = []
    client = result["client"]
    if client["busy"] > _BUSY:
        found.append(f"this client was busy for {client['busy']:.0%} of the time: the client may limit these figures")
    if client.get("checked_early"):
        found.append(f"{client['checked_early']} answers were checked while the clock ran, to bound the memory")
    open_loop = result.get("open_loop")
    if open_loop is not None and open_loop["held_back"]:
        found.append(
            f"{open_loop['held_back']} requests waited for one of {result['plan']['clients']} connections; their times "
            "count from when they should have begun"
        )
    elif open_loop is not None and not open_loop["kept_up"]:
        late_ms = open_loop["late_s"].get("p99", 0.0) * 1e3
        found.append(f"this client could not keep up: 1 % of the requests were sent over {late_ms:.0f} ms late")
    return found


@contextlib.contextmanager
def quiet(interrupt: Callable[[], None]) -> Iterator[None]:
    """Runs its block without the garbage collector. SIGINT calls `interrupt` instead of raising an exception."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        interrupt()

    previous = signal.signal(signal.SIGINT, stop)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        signal.signal(signal.SIGINT, previous)


def _knock(target: Target) -> None:
    """Raises `Unavailable` where no server listens: one clear error instead of a failure of each request."""
    try:
        socket.create_connection((target.host, target.port), _KNOCK_S).close()
    except OSError as error:
        said = "no answer within 5 s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        if error.errno == errno.ECONNREFUSED:
            said = "connection refused"
        raise Unavailable(f"no server answers at {target.url}: {said}") from error


def _allow_files(clients: int) -> None:
    """Allows as many open files as the connections need. Raises `ConfigError` where the system allows fewer."""
    needed = clients + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(f"`clients`: {clients} need {needed} open files; this process may have {hard} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
