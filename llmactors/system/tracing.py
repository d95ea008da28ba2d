"""The export of traces of one node, where the setting `traces` asks for it."""

import os
from collections.abc import Callable

import attrs

from llmactors.actors import ActorSpec
from llmactors.config import Settings
from llmactors.errors import ConfigError
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.actor import TracingActor
from llmactors.telemetry.tracing.tracer import Tracer


def _nothing() -> None:
    pass


@attrs.frozen
class Tracing:
    """What a node has for its traces."""

    tracer: Tracer | None = None
    """None: the node exports no traces."""
    actors: tuple[ActorSpec, ...] = ()
    close: Callable[[], None] = _nothing
    """Ends the thread of the export, after the node's actors have ended."""


def tracing(settings: Settings, node: str, role: str, metrics: Metrics) -> Tracing:
    """The traces of the node `node`. Raises `ConfigError` where traces are on and cannot be exported."""
    if not settings.traces or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Tracing()
    try:
        # Imported here, because a node without traces needs no OpenTelemetry.
        from llmactors.telemetry.tracing.otlp import OtlpExport  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"`traces` needs OpenTelemetry, which is not installed ({error}): pip install 'llmactors[otel]'"
        ) from error
    export = OtlpExport(node, role)

    def show() -> None:
        figures = export.figures
        metrics.spans(exported=figures.exported, failed=figures.failed, dropped=figures.dropped)

    metrics.on_scrape(show)
    actor = ActorSpec("tracing", lambda: TracingActor(export), grace_s=0.5, cleanup_s=3.0)
    return Tracing(Tracer(export), (actor,), export.close)
