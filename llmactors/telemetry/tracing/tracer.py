"""Decides which requests are traced, and takes their spans."""

import secrets
from typing import Protocol

from llmactors.telemetry.tracing.context import CallerSpan
from llmactors.telemetry.tracing.span import TraceSpan


class SpanExport(Protocol):
    """Where spans go."""

    def samples(self, caller: CallerSpan | None, trace_id: int, name: str) -> bool:
        """Whether a trace is to be recorded. `caller` is the span of the caller, if the caller named one."""
        ...

    def put(self, span: TraceSpan) -> None:
        """Takes a span. Never waits, and never raises: a span that cannot be exported is counted and dropped."""
        ...


class Tracer:
    """Makes the ids of spans, and hands spans on."""

    def __init__(self, export: SpanExport) -> None:
        self._export = export

    def begin(self, caller: CallerSpan | None, name: str) -> tuple[int, bool]:
        """The id of the trace that a request belongs to, and whether the trace is to be recorded."""
        trace_id = caller.trace_id if caller is not None else secrets.randbits(128) or 1
        return trace_id, self._export.samples(caller, trace_id, name)

    def new_span_id(self) -> int:
        """A random id of a span."""
        return secrets.randbits(64) or 1

    def put(self, span: TraceSpan) -> None:
        """Takes a span that has ended."""
        self._export.put(span)
