"""Ten thousand streams that get no token: the memory and the CPU time of each.

A gateway holds 4,096 connections, so as many gateways run over Redis as the streams need, and one process gets as many
streams as it holds. The server sends each stream a keep-alive after 15 s of silence, so CPU time is measured for a
little longer than that.
"""

import functools
import time

from bench.scenario import Bench, Figure, Round, Scenario
from bench.scenarios.memory import NEVER_MS, open_streams, resident, settled
from bench.servers import CLUSTER, OURS
from llmactors.load.processes import ProcessUsage

STREAMS = 10_000
STREAMS_OF_ONE_GATEWAY = 4000
FIRST = 20
"""The streams that are opened first: they allocate memory that all later ones share."""
SETTLE_S = 2.0
IDLE_S = 16


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Open all streams, and wait."""
    streams, seconds = bench.size(SCENARIO, "streams"), bench.size(SCENARIO, "seconds")
    gateways = -(-streams // STREAMS_OF_ONE_GATEWAY)
    if name != CLUSTER:
        streams, gateways = min(streams, STREAMS_OF_ONE_GATEWAY), 1
    settings = {"max_queued": 2 * streams, "hung_s": 10_000, "stalled_s": 10_000}
    model = f"mock:step_ms={NEVER_MS},slots={2 * streams}"
    run_server = functools.partial(bench.run_server, gateways=gateways, settings=settings)
    with run_server(name, model) as server, open_streams(server, FIRST):
        before, usage = settled(server), server.usage()
        with open_streams(server, streams):
            opened = server.usage()
            time.sleep(SETTLE_S)
            grown = {part: (value - before[part]) / streams for part, value in resident(server).items()}
            waiting = server.usage()
            time.sleep(seconds)
            waited = server.usage()
    opening_s = cpu_between(usage, opened)
    idle = {part: 1e3 * spent / seconds for part, spent in cpu_between(waiting, waited).items()}
    return {
        "streams": streams,
        "gateways": gateways,
        "stream_bytes": sum(grown.values()),
        "parts_stream_bytes": grown,
        "open_ms": 1e3 * sum(opening_s.values()) / streams,
        "idle_cpu_ms_per_s": sum(idle.values()),
        "stream_idle_cpu_us_per_s": 1e3 * sum(idle.values()) / streams,
        "parts_idle_cpu_ms_per_s": idle,
    }


def cpu_between(before: dict[str, ProcessUsage], after: dict[str, ProcessUsage]) -> dict[str, float]:
    """The seconds of CPU time of each part between two measurements. Pure."""
    return {part: after[part].cpu_s - before[part].cpu_s for part in before}


SCENARIO = Scenario(
    name="idle_streams",
    about=f"{STREAMS:,} streams without a token for {IDLE_S} s, and {STREAMS_OF_ONE_GATEWAY:,} in one process",
    servers=OURS,
    figures=(
        Figure("streams", "streams"),
        Figure("gateways", "gateways"),
        Figure("stream_bytes", "memory of an idle stream", "KB", 1e-3, drawn=True),
        Figure("stream_idle_cpu_us_per_s", "CPU of an idle stream", "us/s", drawn=True),
        Figure("idle_cpu_ms_per_s", "CPU of all idle streams together", "ms/s"),
        Figure("open_ms", "CPU to open a stream", "ms", drawn=True),
        *(
            Figure(f"parts_{path}.{part}", f"{title}, {part}", unit, scale)
            for path, title, unit, scale in (
                ("stream_bytes", "memory of an idle stream", "KB", 1e-3),
                ("idle_cpu_ms_per_s", "CPU of all idle streams", "ms/s", 1.0),
            )
            for part in ("gateway", "worker", "redis")
        ),
    ),
    measure=measure,
    rounds=1,
    sizes={"streams": STREAMS, "seconds": IDLE_S},
)
