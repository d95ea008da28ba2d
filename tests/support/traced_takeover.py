"""A stream whose worker is killed, in real processes that export their spans to a collector."""

import contextlib
import signal
import time
from collections.abc import Callable

import attrs
import httpx

from llmactors.http.sse_reader import SseReader
from llmactors.testing.node import NodeProcess
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_SPAN = "00f067aa0ba902b7"
PROMPT = "Tell me of the sea and of nothing else."
TOKENS = 60
KILL_AFTER = 12
"""The number of tokens after which the worker is killed."""
_MODEL = "mock=mock:step_ms=20,slots=4"


@attrs.frozen
class TracedTakeover:
    """What a client and a collector got."""

    seqs: list[int]
    """The seqs of the events of the stream."""
    spans: list[ReceivedSpan]
    """The trace, in the order of the beginnings."""


def traced_takeover(redis_url: str, receiver: OtlpReceiver) -> TracedTakeover:
    """Streams from one of two workers, kills this worker, and reads the stream to its end from the other one."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> NodeProcess:
            return stack.enter_context(NodeProcess(*arguments, "--redis", redis_url, "--traces", environ=environ))

        gateway = start("gateway", "--name", "gateway", "--bind", "127.0.0.1:0")
        flags = ("--model", _MODEL, "--metrics-bind", "127.0.0.1:0")
        workers = [start("worker", "--name", name, *flags) for name in ("worker-1", "worker-2")]
        url = gateway.wait_ready()
        for worker in workers:
            worker.wait_ready()
        _wait(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        seqs = _read_stream(url, workers)
        _wait(lambda: {"admission", "decode"} <= {span.name for span in receiver.of_trace(TRACE_ID)})
        return TracedTakeover(seqs, receiver.of_trace(TRACE_ID))


def _read_stream(url: str, workers: list[NodeProcess]) -> list[int]:
    asked = {"prompt": PROMPT, "max_tokens": TOKENS, "stream": True}
    headers = {"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN}-01", "tracestate": "vendor=1"}
    reader, seqs, killed = SseReader(), list[int](), False
    with httpx.stream("POST", f"{url}/v1/generate", json=asked, headers=headers, timeout=60) as answer:
        for data in answer.iter_bytes():
            seqs += [int(event.id) for event in reader.feed(data) if event.id]
            if len(seqs) >= KILL_AFTER and not killed:
                [busy] = [worker for worker in workers if _is_busy(worker)]
                busy.process.send_signal(signal.SIGKILL)
                killed = True
    return seqs


def _is_busy(worker: NodeProcess) -> bool:
    return 'llmactors_slots_busy{model="mock"} 1.0' in httpx.get(f"{worker.url}/metrics").text


def _wait(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"nothing came for {within_s:g} s")
        time.sleep(0.02)
