"""The spans of a gateway: one of each call that asks for admission, and one of the admission.

The name and the attributes of the span of a call follow OpenTelemetry's conventions for generative AI (`gen_ai.…`) and
for HTTP. No span contains a prompt, an answer or a part of them.
"""

import time
from collections.abc import Sequence

import trio

from llmactors.http.exchange import Exchange, Scope, header
from llmactors.messages import GenerateRequest, TraceContext
from llmactors.telemetry.tracing.context import caller_span
from llmactors.telemetry.tracing.conventions import operation, request_attributes
from llmactors.telemetry.tracing.span import TraceSpan, Value
from llmactors.telemetry.tracing.tracer import Tracer


def trace_exchange(tracer: Tracer, exchange: Exchange) -> "RequestTrace":
    """Begins the trace of a call, which ends with the exchange."""
    trace = begin_trace(tracer, exchange.scope, exchange.begun)
    exchange.on_end = lambda: trace.end(exchange.status or 499, exchange.code)
    return trace


def begin_trace(tracer: Tracer, scope: Scope, begun: float) -> "RequestTrace":
    """Begins the trace of a call that came at `begun`, on Trio's clock, with the headers of `scope`."""
    caller = caller_span(header(scope, b"traceparent"), header(scope, b"tracestate"))
    method = scope.get("method", "GET")
    name = f"{method} {scope['path']}"
    trace_id, is_sampled = tracer.begin(caller, name)
    return RequestTrace(
        tracer,
        trace_id,
        is_sampled=is_sampled,
        name=name,
        caller_id=None if caller is None else caller.span_id,
        state="" if caller is None else caller.state,
        begun_ns=time.time_ns() - round((trio.current_time() - begun) * 1e9),
        attributes={"http.request.method": method},
    )


class RequestTrace:
    """The trace of one call, for which the gateway admits one or more requests.

    A trace that is not sampled makes no spans, and travels with the requests all the same: upstreams hear that nobody
    records it.
    """

    def __init__(
        self,
        tracer: Tracer,
        trace_id: int,
        *,
        is_sampled: bool,
        name: str,
        caller_id: int | None,
        state: str,
        begun_ns: int,
        attributes: dict[str, Value],
    ) -> None:
        self._tracer = tracer
        self._trace_id = trace_id
        self._is_sampled = is_sampled
        self._span_id = tracer.new_span_id()
        self._name = name
        self._caller_id = caller_id
        self._state = state
        self._begun_ns = begun_ns
        self._admitted_ns = 0
        self._attributes = attributes

    def __repr__(self) -> str:
        return f"<RequestTrace {self._trace_id:032x} {self._name}>"

    @property
    def context(self) -> TraceContext:
        """What travels with a request that is admitted now."""
        return TraceContext(f"{self._trace_id:032x}", f"{self._span_id:016x}", self._state, self._is_sampled)

    def admitted(self, requests: Sequence[GenerateRequest]) -> None:
        """Notes that the requests of the call were admitted now."""
        first = requests[0]
        self._admitted_ns = time.time_ns()
        self._name = f"{operation(first)} {first.model}"
        self._attributes |= request_attributes(first)
        self._attributes |= {"llmactors.tenant": first.tenant, "llmactors.class": first.priority}
        if len(requests) > 1:
            self._attributes["gen_ai.request.choice.count"] = len(requests)

    def end(self, status: int, code: str | None) -> None:
        """Makes the spans. `status` and `code` are those of the answer."""
        if not self._is_sampled:
            return
        now_ns = time.time_ns()
        self._attributes["http.response.status_code"] = status
        self._tracer.put(
            TraceSpan(
                name=self._name,
                trace_id=self._trace_id,
                span_id=self._span_id,
                parent_id=self._caller_id,
                begun_ns=self._begun_ns,
                ended_ns=now_ns,
                state=self._state,
                is_server=True,
                attributes=self._attributes,
                # A mistake of the client is no error of the server.
                error="" if code is None or 400 <= status < 500 else code,
            )
        )
        self._tracer.put(
            TraceSpan(
                name="admission",
                trace_id=self._trace_id,
                span_id=self._tracer.new_span_id(),
                parent_id=self._span_id,
                begun_ns=self._begun_ns,
                ended_ns=self._admitted_ns or now_ns,
                state=self._state,
                attributes={} if self._admitted_ns else {"llmactors.refused": code or str(status)},
            )
        )
