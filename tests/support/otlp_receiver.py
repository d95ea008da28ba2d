"""A collector for tests: it takes spans by OTLP over HTTP on the loopback interface, and keeps them."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@attrs.frozen
class ReceivedSpan:
    """One span as the collector got it."""

    name: str
    node: str
    """The `service.instance.id` of the process that sent the span."""
    trace_id: str
    span_id: str
    parent_id: str
    begun_ns: int
    ended_ns: int
    kind: int
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    links: tuple[tuple[str, dict[str, Any]], ...]
    """The ids and the attributes of the spans that this span follows."""


class OtlpReceiver:
    """What has arrived at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[ReceivedSpan] = []
        self.resources: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    def take(self, body: bytes) -> None:
        """Takes one request of an exporter."""
        self.bodies.append(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_node in request.resource_spans:
            resource = _attributes(of_node.resource.attributes)
            self.resources.append(resource)
            for scope in of_node.scope_spans:
                self.spans += [_received(span, str(resource["service.instance.id"])) for span in scope.spans]

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of one trace, in the order of their beginnings."""
        found = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(found, key=lambda span: (span.begun_ns, -span.ended_ns))


@contextlib.contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Runs a collector in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def _received(span: Any, node: str) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        node=node,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        begun_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        kind=span.kind,
        failed=span.status.code == 2,
        attributes=_attributes(span.attributes),
        events=tuple(event.name for event in span.events),
        links=tuple((link.span_id.hex(), _attributes(link.attributes)) for link in span.links),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
