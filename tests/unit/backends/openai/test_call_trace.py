"""The headers and spans of requests to upstreams, on nodes that export spans and on those that do not."""

from llmactors.backends.base import Job
from llmactors.backends.openai.requests.call_trace import CANCELLED, UNTRACED, JobTrace, call_trace
from llmactors.http.client_socket import Origin
from llmactors.messages import GenerateRequest, TraceContext
from llmactors.telemetry.tracing.context import CallerSpan, claim_span_id
from llmactors.telemetry.tracing.span import TraceSpan
from llmactors.telemetry.tracing.tracer import Tracer

ORIGIN = Origin.parse("https://api.example/llm")
CONTEXT = TraceContext(f"{7:032x}", f"{9:016x}", "vendor=1")
KEY = ("r", 3)


class Collected:
    """A `SpanExport` that keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[TraceSpan] = []

    def samples(self, caller: CallerSpan | None, trace_id: int, name: str) -> bool:
        raise AssertionError("a worker decides nothing")

    def put(self, span: TraceSpan) -> None:
        self.spans.append(span)


def job(trace: TraceContext | None) -> Job:
    return Job(KEY, GenerateRequest("r", "m", "hi", trace=trace))


def test_request_of_no_trace_has_no_headers() -> None:
    collected = Collected()
    trace = call_trace(JobTrace.of(job(None), Tracer(collected)))
    assert (trace is UNTRACED, trace.send(ORIGIN, "/x")) == (True, ())
    trace.end()
    assert not collected.spans


def test_worker_without_traces_passes_the_span_of_the_gateway_on() -> None:
    trace = call_trace(JobTrace.of(job(CONTEXT), None))
    assert trace.send(ORIGIN, "/x") == [("traceparent", f"00-{7:032x}-{9:016x}-01"), ("tracestate", "vendor=1")]
    trace.respond(200)
    trace.end()


def test_span_is_made_once_and_keeps_its_first_end() -> None:
    collected = Collected()
    trace = call_trace(JobTrace.of(job(CONTEXT), Tracer(collected)), is_hedge=True)
    [(_, header), _] = trace.send(ORIGIN, "/llm/v1/chat/completions")
    trace.end("silent")
    trace.end(ended=CANCELLED)
    [span] = collected.spans
    assert header == f"00-{7:032x}-{span.span_id:016x}-01"
    assert (span.parent_id, span.error, span.is_client) == (claim_span_id(7, *KEY), "silent", True)
    said = span.attributes
    assert (said["url.full"], said["server.port"]) == ("https://api.example/llm/v1/chat/completions", 443)
    assert (said["llmactors.epoch"], said["llmactors.hedge"], "llmactors.ended" in said) == (3, True, False)
