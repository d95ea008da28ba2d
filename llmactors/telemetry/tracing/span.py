"""One span, as it is exported. Pure."""

from collections.abc import Mapping

import attrs

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]


@attrs.frozen
class SpanEvent:
    """Something that happened within a span."""

    name: str
    at_ns: int
    attributes: Attributes = attrs.field(factory=dict)


@attrs.frozen
class SpanLink:
    """Another span of the same trace that a span follows."""

    span_id: int
    attributes: Attributes = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TraceSpan:
    """A span that has ended. Times are in nanoseconds since 1970."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    """The span that this span is a part of; None for the first span of a trace."""
    begun_ns: int
    ended_ns: int
    state: str = ""
    """The `tracestate` of the trace."""
    is_server: bool = False
    """Whether the span is the answer to a call over the network, whose parent is in another program."""
    is_client: bool = False
    """Whether the span is a request to another program, whose own spans are below it."""
    attributes: Attributes = attrs.field(factory=dict)
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    error: str = ""
    """A word for what failed; empty where nothing did."""
