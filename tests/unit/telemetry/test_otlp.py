"""The export of spans: what is sampled, what is dropped, and what the environment may ask for."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.system.tracing import tracing
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.context import CallerSpan
from llmactors.telemetry.tracing.otlp import OtlpExport
from llmactors.telemetry.tracing.span import SpanEvent, SpanLink, TraceSpan
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    with otlp_receiver() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        yield running


def span(number: int = 1, **fields: object) -> TraceSpan:
    usual: dict[str, object] = {"name": "s", "trace_id": 7, "span_id": number, "parent_id": None}
    return TraceSpan(**usual | {"begun_ns": 10, "ended_ns": 20} | fields)  # type: ignore[arg-type]


def test_span_arrives_as_it_was_made(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=mine")
    export = OtlpExport("node-1", "worker")
    events, links = (SpanEvent("first token", 15),), (SpanLink(5, {"llmactors.cause": "crashed"}),)
    export.put(span(3, parent_id=2, attributes={"a": ("x", "y"), "n": 1}, events=events, links=links, error="OOPS"))
    export.flush()
    [found] = receiver.spans
    assert (found.name, found.trace_id, found.span_id, found.parent_id) == ("s", f"{7:032x}", f"{3:016x}", f"{2:016x}")
    assert (found.begun_ns, found.ended_ns, found.failed) == (10, 20, True)
    assert found.attributes == {"a": ["x", "y"], "n": 1, "error.type": "OOPS"}
    assert found.events == ("first token",)
    assert found.links == ((f"{5:016x}", {"llmactors.cause": "crashed"}),)
    [resource] = receiver.resources
    names = ("service.name", "service.instance.id", "deployment.environment.name", "llmactors.role")
    assert [resource[name] for name in names] == ["llmactors", "mine", "test", "worker"]
    assert (export.figures.exported, export.trouble) == (1, "")
    export.close()


def test_caller_decides_what_is_traced(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def samples() -> list[bool]:
        export = OtlpExport("n", "node")
        callers = (None, CallerSpan(7, 1, 1), CallerSpan(7, 1, 0))
        found = [export.samples(caller, 7, "chat m") for caller in callers]
        export.close()
        return found

    assert samples() == [True, True, False]
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    assert samples() == [False, True, False]


def test_spans_beyond_the_bound_are_counted(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3")
    taken, free = receiver.take, threading.Event()
    monkeypatch.setattr(receiver, "take", lambda body: (free.wait(5), taken(body)))
    export = OtlpExport("n", "node")
    for number in range(1, 11):
        export.put(span(number))
    free.set()
    export.flush()
    assert (export.figures.exported, export.figures.dropped) == (3, 7)
    export.close()


def test_collector_that_is_away_costs_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    export = OtlpExport("n", "node")
    export.put(span())
    export.flush()
    assert (export.figures.failed, export.figures.exported) == (1, 0)
    assert export.trouble
    export.close()


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_TRACES_EXPORTER", "zipkin")]
)
def test_other_exporters_are_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=value):
        tracing(Settings(traces=True), "n", "node", Metrics())


def test_disabled_sdk_exports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing(Settings(traces=True), "n", "node", Metrics()).tracer is None
    assert tracing(Settings(), "n", "node", Metrics()).actors == ()


def test_node_without_traces_imports_no_opentelemetry() -> None:
    # Nodes of a cluster use redis-py, which imports OpenTelemetry by itself where it is installed.
    code = "import sys, llmactors.system.node; print('opentelemetry' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "False\n"


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llmactors.telemetry.tracing.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigError, match=re.escape("llmactors[otel]")):
        tracing(Settings(traces=True), "n", "node", Metrics())
