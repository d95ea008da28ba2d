"""The place of the requests to upstreams in the trace of the request that they answer.

Each request that is sent has a span of its own, whose id is in the header `traceparent`: a second try, a request that
is sent again without a field, and a request beside another one that is late too. So the spans that an upstream makes
are below the request that caused them. https://www.w3.org/TR/trace-context/ describes the headers, and the attributes
are those of OpenTelemetry's conventions for HTTP clients.
"""

import time
from collections.abc import Sequence

import attrs

from llmactors.backends.base import Job
from llmactors.http.client_socket import Origin
from llmactors.messages import TraceContext
from llmactors.telemetry.tracing.context import claim_span_id, trace_headers
from llmactors.telemetry.tracing.span import TraceSpan, Value
from llmactors.telemetry.tracing.tracer import Tracer

CANCELLED = "cancelled"
"""How the span of a request ends that was given up: the client left, or another upstream was faster."""
_FIRST_ERROR_STATUS = 400


class CallTrace:
    """The trace of one try. A try sends a request again where the upstream refuses a field.

    Args:
        job: The trace of the try's job; None where the job is not traced. Then all methods do nothing.
        is_hedge: Whether the try begins while another one waits for its first token.
    """

    def __init__(self, job: "JobTrace | None", *, is_hedge: bool = False) -> None:
        self._job = job
        self._is_hedge = is_hedge
        self._span: TraceSpan | None = None

    def __repr__(self) -> str:
        return f"<CallTrace {self._job} {'sent' if self._span else ''}>"

    def send(self, origin: Origin, path: str) -> Sequence[tuple[str, str]]:
        """Begins the span of a request that is sent now, and returns the headers that name the span."""
        if self._job is None:
            return ()
        context, tracer = self._job.context, self._job.tracer
        if tracer is None:
            return trace_headers(context, context.span_id)
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "server.address": origin.host,
            "server.port": origin.port,
            "url.full": f"{'https' if origin.is_tls else 'http'}://{origin.authority}{path}",
            "llmactors.epoch": self._job.epoch,
        }
        if self._is_hedge:
            attributes["llmactors.hedge"] = True
        if self._job.sent:
            attributes["http.request.resend_count"] = self._job.sent
        self._job.sent += 1
        self._span = TraceSpan(
            name="POST",
            trace_id=self._job.trace_id,
            span_id=tracer.new_span_id(),
            parent_id=self._job.parent_id,
            begun_ns=time.time_ns(),
            ended_ns=0,
            state=context.state,
            is_client=True,
            attributes=attributes,
        )
        return trace_headers(context, f"{self._span.span_id:016x}")

    def respond(self, status: int) -> None:
        """Notes the status of the response."""
        if self._span is not None:
            self._span = attrs.evolve(
                self._span,
                attributes={**self._span.attributes, "http.response.status_code": status},
                error=str(status) if status >= _FIRST_ERROR_STATUS else "",
            )

    def end(self, fault: str = "", *, ended: str = "") -> None:
        """Makes the span of the request that was sent last, unless it was made already.

        Args:
            fault: The kind of the fault that ended the request; empty for none.
            ended: Why the request ended without a fault and before its answer was whole.
        """
        span, self._span = self._span, None
        if span is None or self._job is None or self._job.tracer is None:
            return
        attributes = {**span.attributes, "llmactors.ended": ended} if ended else span.attributes
        self._job.tracer.put(
            attrs.evolve(span, ended_ns=time.time_ns(), attributes=attributes, error=span.error or fault)
        )


UNTRACED = CallTrace(None)
"""The trace of every try of a job that is not traced."""


@attrs.define
class JobTrace:
    """What the requests of one job have in common in their trace."""

    context: TraceContext
    trace_id: int
    parent_id: int
    """The span of the job's claim."""
    epoch: int
    tracer: Tracer | None
    """None where this node makes no spans of the job: then upstreams are told the gateway's span."""
    sent: int = 0
    """How many requests were sent."""

    @classmethod
    def of(cls, job: Job, tracer: Tracer | None) -> "JobTrace | None":
        """The trace of a job; None where the job's request belongs to none."""
        context = job.request.trace
        if context is None:
            return None
        trace_id = int(context.trace_id, 16)
        parent_id = claim_span_id(trace_id, *job.key)
        return cls(context, trace_id, parent_id, job.key[1], tracer if context.sampled else None)


def call_trace(job: JobTrace | None, *, is_hedge: bool = False) -> CallTrace:
    """The trace of one try of a job."""
    return UNTRACED if job is None else CallTrace(job, is_hedge=is_hedge)
