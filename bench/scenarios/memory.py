"""The memory of a stream that gets no tokens now, and of a request that waits; and whether memory grows with use."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

from bench.contestants import OURS, Serving, port_of
from bench.scenario import Bench, Curve, Figure, Round, Scenario

STREAMS = 500
NEVER_MS = 600_000
SETTLE_S = 1.0
WARM_TOKENS = 500_000
"""Until what is kept of ended requests, for a while, has reached its bounds."""
TOKENS = 1_000_000
BATCHES = 10
MAX_TOKENS = 64
CLIENTS = 60


def measure(bench: Bench, name: str, _: list[Round]) -> Round:
    """On fresh servers each."""
    found: Round = {"failed": 0}
    for figure, slots in (("idle_stream_bytes", 2 * STREAMS), ("queued_request_bytes", 1)):
        model = f"mock:step_ms={NEVER_MS},slots={slots}"
        settings = {"max_queued": 4 * STREAMS, "hung_s": 10_000, "stalled_s": 10_000}
        # A few are there before, for what is made once, with the first requests.
        with bench.serving(name, model, settings=settings) as serving, held(serving, 20):
            time.sleep(SETTLE_S)
            before = resident(serving)
            with held(serving, STREAMS):
                time.sleep(SETTLE_S)
                grown = {part: (value - before[part]) / STREAMS for part, value in resident(serving).items()}
            found |= {f"{part}_{figure}": value for part, value in grown.items()}
            found[figure] = sum(grown.values())
    found |= slope(bench, name)
    return found


def slope(bench: Bench, name: str) -> Round:
    """Memory over a million tokens, after a warm-up. What has ended is forgotten after a second, and that it was there
    after another, so as to see leaks: by themselves tombstones add up for ten minutes.
    """
    settings = {"retention_s": 1, "tombstone_s": 1}
    tokens = TOKENS // 4 if bench.quick else TOKENS
    requests = tokens // BATCHES // MAX_TOKENS
    points: list[tuple[int, dict[str, int]]] = []
    failed = 0
    with bench.serving(name, "mock:step_ms=0,slots=64", settings=settings) as serving:
        bench.load(serving, clients=CLIENTS, requests=WARM_TOKENS // MAX_TOKENS, max_tokens=MAX_TOKENS)
        time.sleep(3 * SETTLE_S)
        done = 0
        points.append((done, resident(serving)))
        for _ in range(BATCHES):
            load = bench.load(serving, clients=CLIENTS, requests=requests, max_tokens=MAX_TOKENS)
            failed += load["failed"]
            done += load["tokens"]
            time.sleep(SETTLE_S)
            points.append((done, resident(serving)))
    slopes = {part: fitted_slope([(done, bytes_of[part]) for done, bytes_of in points]) * 1e6 for part in points[0][1]}
    return {
        **{f"{part}_bytes_per_million_tokens": value for part, value in slopes.items()},
        "bytes_per_million_tokens": sum(slopes.values()),
        "resident_mb": [(done / 1e6, sum(bytes_of.values()) / 1e6) for done, bytes_of in points],
        "failed": failed,
    }


def fitted_slope(points: list[tuple[int, int]]) -> float:
    """The least-squares slope through `points`."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def resident(serving: Serving) -> dict[str, int]:
    """Of each part, in bytes."""
    return {name: usage.resident_bytes for name, usage in serving.usage().items()}


@contextlib.contextmanager
def held(serving: Serving, count: int) -> Iterator[None]:
    """So many streams that have been accepted and wait."""
    body = json.dumps({"prompt": "wait", "max_tokens": MAX_TOKENS, "stream": True})
    request = f"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(count):
            address = ("127.0.0.1", port_of(serving.url))
            connection = stack.enter_context(socket.create_connection(address, timeout=30))
            connection.sendall(request)
            connections.append(connection)
        for connection in connections:
            if not (head := connection.recv(4096)).startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"not accepted: {head[:200]!r}")
        yield


SCENARIO = Scenario(
    name="memory",
    about=f"{STREAMS} streams without a token, {STREAMS} requests that wait, and {TOKENS:,} tokens after a warm-up",
    contestants=OURS,
    figures=(
        Figure("idle_stream_bytes", "memory of an idle stream", "KB", 1e-3, drawn=True),
        Figure("queued_request_bytes", "memory of a queued request", "KB", 1e-3, drawn=True),
        Figure("bytes_per_million_tokens", "growth over 1,000,000 tokens", "MB", 1e-6, drawn=True),
        *(
            Figure(f"{part}_{figure}_bytes", f"{figure.replace('_', ' ')}: of it {part}", "KB", 1e-3)
            for figure in ("idle_stream", "queued_request")
            for part in ("gateway", "worker", "redis")
        ),
        *(
            Figure(f"{part}_bytes_per_million_tokens", f"growth: of it {part}", "MB", 1e-6)
            for part in ("gateway", "worker", "redis")
        ),
        Figure("failed", "requests that failed"),
    ),
    measure=measure,
    rounds=1,
    curve=Curve("resident_mb", "million tokens since the warm-up", "memory of all processes, MB", logarithmic=False),
)
