"""The memory of an idle stream and of a queued request, and whether memory grows with the tokens that are served."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator

from bench.scenario import Bench, Curve, Figure, Round, Scenario
from bench.servers import OURS, RunningServer, port_of

STREAMS = 500
STREAMS_OF_ONE_ADDRESS = 1000
OPENED_AT_ONCE = 100
"""More requests at once would wait for each other for as long as a call to Redis may take on a busy machine."""
NEVER_MS = 600_000
"""A step so long that no stream gets a token while memory is measured."""
SETTLE_S = 1.0
SETTLED_BYTES = 250_000
"""A part that grows by less in two seconds does not grow."""
SETTLE_TRIES = 30
WARM_TOKENS = 500_000
"""After so many tokens, the records of ended requests have reached their bounds."""
TOKENS = 1_000_000
BATCHES = 10
MAX_TOKENS = 64
CLIENTS = 60


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """Measure streams, queued requests and growth, each on a fresh server."""
    found: Round = {"failed": 0}
    for figure, slots in (("idle_stream_bytes", 2 * STREAMS), ("queued_request_bytes", 1)):
        model = f"mock:step_ms={NEVER_MS},slots={slots}"
        settings = {"max_queued": 4 * STREAMS, "hung_s": 10_000, "stalled_s": 10_000}
        # The first requests allocate memory that all later ones share, so a few streams are opened first.
        with bench.run_server(name, model, settings=settings) as server, open_streams(server, 20):
            before = settled(server)
            with open_streams(server, STREAMS):
                time.sleep(SETTLE_S)
                grown = {part: (value - before[part]) / STREAMS for part, value in resident(server).items()}
            found |= {f"{part}_{figure}": value for part, value in grown.items()}
            found[figure] = sum(grown.values())
    found |= slope(bench, name)
    return found


def slope(bench: Bench, name: str) -> Round:
    """Measure the growth of memory over a million tokens, after a warm-up.

    The servers forget an ended request after one second and its tombstone after another second. With the default
    settings tombstones accumulate for ten minutes and would hide a leak.
    """
    settings = {"retention_s": 1, "tombstone_s": 1}
    tokens = TOKENS // 4 if bench.quick else TOKENS
    requests = tokens // BATCHES // MAX_TOKENS
    points: list[tuple[int, dict[str, int]]] = []
    failed = 0
    with bench.run_server(name, "mock:step_ms=0,slots=64", settings=settings) as server:
        bench.load(server, clients=CLIENTS, requests=WARM_TOKENS // MAX_TOKENS, max_tokens=MAX_TOKENS)
        time.sleep(3 * SETTLE_S)
        done = 0
        points.append((done, resident(server)))
        for _ in range(BATCHES):
            load = bench.load(server, clients=CLIENTS, requests=requests, max_tokens=MAX_TOKENS)
            failed += load["failed"]
            done += load["tokens"]
            time.sleep(SETTLE_S)
            points.append((done, resident(server)))
    slopes = {part: fitted_slope([(done, bytes_of[part]) for done, bytes_of in points]) * 1e6 for part in points[0][1]}
    return {
        **{f"{part}_bytes_per_million_tokens": value for part, value in slopes.items()},
        "bytes_per_million_tokens": sum(slopes.values()),
        "resident_mb": [(done / 1e6, sum(bytes_of.values()) / 1e6) for done, bytes_of in points],
        "failed": failed,
    }


def fitted_slope(points: list[tuple[int, int]]) -> float:
    """The slope of the least-squares line through `points`."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def resident(server: RunningServer) -> dict[str, int]:
    """Resident memory of each part in bytes."""
    return {name: usage.resident_bytes for name, usage in server.usage().items()}


def settled(server: RunningServer) -> dict[str, int]:
    """Resident memory of each part, once no part grows any more: a gateway starts another one beside it.

    Raises:
        RuntimeError: The memory went on growing.
    """
    before = resident(server)
    for _ in range(SETTLE_TRIES):
        time.sleep(2 * SETTLE_S)
        now = resident(server)
        if all(abs(now[part] - before[part]) < SETTLED_BYTES for part in now):
            return now
        before = now
    raise RuntimeError(f"the memory of an idle server did not settle: {before}")


@contextlib.contextmanager
def open_streams(server: RunningServer, count: int) -> Iterator[None]:
    """Open `count` streams that the server has accepted and that get no token until the block ends.

    All gateways get the same number of them. A gateway takes a limited number of connections from one address, so the
    streams come from several addresses of this machine.
    """
    allow_files(count)
    body = json.dumps({"prompt": "wait", "max_tokens": MAX_TOKENS, "stream": True})
    request = f"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    ports = [port_of(url) for url in server.urls]
    with contextlib.ExitStack() as stack:
        for first in range(0, count, OPENED_AT_ONCE):
            connections = []
            for number in range(first, min(count, first + OPENED_AT_ONCE)):
                own = (f"127.0.0.{2 + number // STREAMS_OF_ONE_ADDRESS}", 0)
                address = ("127.0.0.1", ports[number % len(ports)])
                connection = stack.enter_context(socket.create_connection(address, timeout=60, source_address=own))
                connection.sendall(request)
                connections.append(connection)
            for connection in connections:
                if not (head := connection.recv(4096)).startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"the server refused a stream: {head[:50]!r} … {head[-150:]!r}")
        yield


def allow_files(count: int) -> None:
    """Allow this process `count` connections beside those of the benchmark, as far as the system lets it.

    Raises:
        RuntimeError: The system allows fewer open files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 256
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise RuntimeError(f"{count} streams need {needed} open files, and this process may have {hard} (ulimit -n)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


SCENARIO = Scenario(
    name="memory",
    about=f"{STREAMS} streams without a token, {STREAMS} queued requests, and {TOKENS:,} tokens after a warm-up",
    servers=OURS,
    figures=(
        Figure("idle_stream_bytes", "memory of an idle stream", "KB", 1e-3, drawn=True),
        Figure("queued_request_bytes", "memory of a queued request", "KB", 1e-3, drawn=True),
        Figure("bytes_per_million_tokens", "growth over 1,000,000 tokens", "MB", 1e-6, drawn=True),
        *(
            Figure(f"{part}_{figure}_bytes", f"memory of {figure.replace('_', ' ')}, {part}", "KB", 1e-3)
            for figure in ("idle_stream", "queued_request")
            for part in ("gateway", "worker", "redis")
        ),
        *(
            Figure(f"{part}_bytes_per_million_tokens", f"growth over 1,000,000 tokens, {part}", "MB", 1e-6)
            for part in ("gateway", "worker", "redis")
        ),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=1,
    curve=Curve("resident_mb", "million tokens since the warm-up", "memory of all processes, MB", logarithmic=False),
)
