"""Exports spans by OTLP, with OpenTelemetry's SDK.

The SDK's batch processor has a bounded queue and a thread of its own, so that a collector that is slow or away delays
nothing. This module keeps the bound itself: the SDK would drop the oldest spans, and log a line for each of them.

OpenTelemetry's environment variables hold: `OTEL_EXPORTER_OTLP_…` for the collector, `OTEL_TRACES_SAMPLER` for what is
recorded (by default what the caller records, and every trace that begins here), `OTEL_BSP_…` for the queue,
`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` for the names of the node.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence

import attrs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from llmactors import __version__
from llmactors.errors import ConfigError
from llmactors.telemetry.tracing.context import CallerSpan
from llmactors.telemetry.tracing.span import TraceSpan

QUEUE_MAX = 8192
"""The most spans that wait, where `OTEL_BSP_MAX_QUEUE_SIZE` says nothing."""
BATCH_MAX = 256
"""The most spans in one export, where `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` says nothing: to encode many spans holds the
interpreter."""
DELAY_MS = 1000
"""The time between two exports, where `OTEL_BSP_SCHEDULE_DELAY` says nothing: what waits is lost when the process is
killed."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


@attrs.frozen
class ExportFigures:
    """How many spans had each outcome so far."""

    exported: int
    failed: int
    """The collector did not take these spans."""
    dropped: int
    """Too many spans waited."""


class OtlpExport:
    """A `SpanExport` to the collector that the environment names.

    Args:
        node: The name of the node, by which its spans are told from those of other nodes.
        role: `gateway`, `worker`, or `node` for a server in one process.
        environment: The variables of the process. The SDK reads those of the process itself.

    Raises:
        ConfigError: A variable asks for a protocol or an exporter that is not available.
    """

    def __init__(self, node: str, role: str, environment: Mapping[str, str] = os.environ) -> None:
        _check(environment)
        self._reason = _LastMessage()
        given = {
            "service.name": "llmactors",
            "service.instance.id": node,
            "service.version": __version__,
            "llmactors.role": role,
        }
        named = OTELResourceDetector().detect().attributes  # by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        own = {key: value for key, value in given.items() if key not in named}
        self._resource = Resource.create().merge(Resource(own))
        self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        self._scope = InstrumentationScope("llmactors", __version__)
        self._counting = _CountingExporter(OTLPSpanExporter())
        most = environment.get("OTEL_BSP_MAX_QUEUE_SIZE", "")
        self._most = int(most) if most.isdigit() and int(most) else QUEUE_MAX
        self._processor = BatchSpanProcessor(
            self._counting,
            max_queue_size=self._most,
            max_export_batch_size=_unless_set(
                environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", min(BATCH_MAX, self._most)
            ),
            schedule_delay_millis=_unless_set(environment, "OTEL_BSP_SCHEDULE_DELAY", DELAY_MS),
        )
        self._taken = 0
        self._dropped = 0

    def __repr__(self) -> str:
        return f"<OtlpExport {self.figures}>"

    @property
    def figures(self) -> ExportFigures:
        """The counts so far."""
        return ExportFigures(self._counting.exported, self._counting.failed, self._dropped)

    @property
    def trouble(self) -> str:
        """Why the last export failed; empty where it succeeded, and before the first one."""
        return (self._reason.text or "the collector did not take the spans") if self._counting.is_failing else ""

    def samples(self, caller: CallerSpan | None, trace_id: int, name: str) -> bool:
        context = None
        if caller is not None:
            flags, state = TraceFlags(caller.flags), TraceState.from_header([caller.state])
            named = SpanContext(trace_id, caller.span_id, is_remote=True, trace_flags=flags, trace_state=state)
            context = set_span_in_context(NonRecordingSpan(named))
        found = self._provider.sampler.should_sample(context, trace_id, name, SpanKind.SERVER)
        return found.decision is Decision.RECORD_AND_SAMPLE

    def put(self, span: TraceSpan) -> None:
        waiting = self._taken - self._counting.exported - self._counting.failed
        if waiting >= self._most:
            self._dropped += 1
            return
        self._taken += 1
        self._processor.on_end(self._readable(span))

    def flush(self) -> None:
        """Exports what waits. Waits for the collector."""
        self._processor.force_flush()

    def close(self) -> None:
        """Ends the thread. Does not wait for the end."""
        threading.Thread(target=self._processor.shutdown, name="end of the export of traces", daemon=True).start()

    def _readable(self, span: TraceSpan) -> ReadableSpan:
        state = TraceState.from_header([span.state])
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(span.trace_id, span.parent_id, span.is_server, _SAMPLED, state)
        context = SpanContext(span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=state)
        attributes = {**span.attributes, "error.type": span.error} if span.error else span.attributes
        return ReadableSpan(
            span.name,
            context,
            parent,
            self._resource,
            attributes,
            [Event(event.name, event.attributes, event.at_ns) for event in span.events],
            [
                Link(SpanContext(span.trace_id, link.span_id, is_remote=True, trace_flags=_SAMPLED), link.attributes)
                for link in span.links
            ],
            SpanKind.SERVER if span.is_server else SpanKind.CLIENT if span.is_client else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR) if span.error else Status(),
            start_time=span.begun_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


class _CountingExporter(SpanExporter):
    """Counts what `exporter` exports. The processor's thread writes the counts, and the node's thread reads them."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.exported = 0
        self.failed = 0
        self.is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self.is_failing = result is not SpanExportResult.SUCCESS
            if self.is_failing:
                self.failed += len(spans)
            else:
                self.exported += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _LastMessage(logging.Handler):
    """Keeps the last message of OpenTelemetry's loggers, which would log each failed export by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.text = record.getMessage()[:200]


def _check(environment: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name) or "http/protobuf"
        if protocol != "http/protobuf":
            raise ConfigError(f"{name} is {protocol!r}; traces are exported by http/protobuf only, as on port 4318")
    exporter = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER is {exporter!r}; traces are exported by otlp only")


def _unless_set(environment: Mapping[str, str], name: str, value: int) -> int | None:
    return None if environment.get(name) else value
