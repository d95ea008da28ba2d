"""The headers of W3C's Trace Context: the span of a caller, and the headers for other servers; ids of spans. Pure.

https://www.w3.org/TR/trace-context/ describes the headers `traceparent` and `tracestate`.
"""

import re
from hashlib import blake2b

import attrs

from llmactors.messages import TraceContext

MAX_STATE_CHARS = 512
"""A longer `tracestate` is left out, as the specification allows."""
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[\x20-\x7e\t]*")


@attrs.frozen
class CallerSpan:
    """The span of the caller of a request."""

    trace_id: int
    span_id: int
    flags: int
    """Bit 0 is set where the caller records its span."""
    state: str = ""
    """The caller's `tracestate`."""


def caller_span(traceparent: str | None, tracestate: str | None) -> CallerSpan | None:
    """The caller's span; None where the headers name none, or are not valid."""
    found = _PARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    state = (tracestate or "").strip()
    if len(state) > MAX_STATE_CHARS or not _STATE.fullmatch(state):
        state = ""
    return CallerSpan(int(trace_id, 16), int(span_id, 16), int(flags, 16), state)


def trace_headers(context: TraceContext, span_id: str) -> list[tuple[str, str]]:
    """The headers of a request that is sent to another server as `span_id`, 16 hexadecimal digits, of a trace."""
    found = [("traceparent", f"00-{context.trace_id}-{span_id}-{'01' if context.sampled else '00'}")]
    return [*found, ("tracestate", context.state)] if context.state else found


def claim_span_id(trace_id: int, request_id: str, epoch: int) -> int:
    """The id of the span of a claim, which every node can compute: the next worker links to the claim before its own,
    also where the worker of that claim was killed.
    """
    digest = blake2b(f"{trace_id:032x}/{request_id}/{epoch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1
