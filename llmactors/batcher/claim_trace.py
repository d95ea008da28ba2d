"""The spans of a worker for one claim of a request: its wait in the queue, the claim, and the time of its tokens.

A worker makes the span of the wait when it claims the request, and the span of the claim when the claim is over. A
worker that was killed makes no span of its claim. So the next worker makes this span, from what the ledger remembers of
the claim, and a worker that has lost its lease makes none either.
"""

import time
from collections.abc import Iterable

from llmactors.backends.messages import Key
from llmactors.batcher.running import Running
from llmactors.ledger import Claim, ClaimEnd, ClaimNote
from llmactors.messages import Failed, TraceContext
from llmactors.telemetry.tracing.context import claim_span_id
from llmactors.telemetry.tracing.conventions import end_attributes, request_attributes
from llmactors.telemetry.tracing.span import Attributes, SpanEvent, SpanLink, TraceSpan, Value
from llmactors.telemetry.tracing.tracer import Tracer

_WORKER_IS_GONE = {ClaimEnd.DISCONNECTED, ClaimEnd.SILENT, ClaimEnd.REPLACED}
"""The ends of claims of which the worker of the claim makes no spans."""


class ClaimTraces:
    """The traces of the claims that a worker holds. Requests that are not traced have none."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._held: dict[Key, tuple[Running, ClaimTrace]] = {}
        self._without_token: set[Key] = set()
        """The claims of which the backend has made no token yet."""

    def __repr__(self) -> str:
        return f"<ClaimTraces of {len(self._held)} claims>"

    def begin(self, claims: Iterable[Running], worker: str) -> None:
        """Begins the traces of claims that `worker` gives to its backend now."""
        for running in claims:
            context = running.claim.request.trace
            if context is None or not context.sampled:
                continue
            trace = ClaimTrace(self._tracer, context, running.claim, worker)
            if running.claim.earlier and running.claim.earlier[-1].ended in _WORKER_IS_GONE:
                trace.put_claim_before()
            trace.put_queue()
            self._held[running.key] = running, trace
            self._without_token.add(running.key)

    def stepped(self, requests: Iterable[Running]) -> None:
        """Notes which of `requests`, for which the backend has just made something, have their first token now."""
        if not self._without_token:
            return
        for running in requests:
            if running.key in self._without_token and len(running.deltas) > len(running.claim.tokens):
                self._without_token.discard(running.key)
                self._held[running.key][1].first_token()

    def end(self, key: Key, how: str = "") -> None:
        """Ends the trace of a claim that is over. `how` is as in `ClaimTrace.end`."""
        if (found := self._pop(key)) is not None:
            running, trace = found
            trace.end(running, how)

    def end_all(self, how: str) -> None:
        """Ends all traces."""
        for key in [*self._held]:
            self.end(key, how)

    def lose(self, keys: Iterable[Key]) -> None:
        """Forgets claims that are lost: the next worker makes their spans."""
        for key in keys:
            self._pop(key)

    def _pop(self, key: Key) -> "tuple[Running, ClaimTrace] | None":
        self._without_token.discard(key)
        return self._held.pop(key, None)


class ClaimTrace:
    """The trace of one claim."""

    def __init__(self, tracer: Tracer, context: TraceContext, claim: Claim, worker: str) -> None:
        self._tracer = tracer
        self._context = context
        self._claim = claim
        self._worker = worker
        self._trace_id = int(context.trace_id, 16)
        self._begun_ns = time.time_ns()
        self._queued_ns = self._begun_ns - round(claim.waited_s * 1e9)
        self._first_ns = 0

    def __repr__(self) -> str:
        return f"<ClaimTrace {self._claim.request.id} epoch {self._claim.epoch}>"

    def put_queue(self) -> None:
        """Makes the span of the wait in the queue."""
        request = self._claim.request
        attributes = {"llmactors.class": request.priority, "llmactors.epoch": self._claim.epoch}
        parent_id = int(self._context.span_id, 16)
        self._put("queue", self._tracer.new_span_id(), parent_id, self._queued_ns, self._begun_ns, attributes)

    def first_token(self) -> None:
        """Notes that the backend has made the first token of this claim."""
        self._first_ns = time.time_ns()

    def end(self, running: Running, how: str = "") -> None:
        """Makes the spans of a claim that is over now.

        Args:
            running: The request and its tokens.
            how: Why the claim is over though its answer has no end; empty where the answer has ended.
        """
        now_ns, claim = time.time_ns(), self._claim
        made = len(running.deltas) - len(claim.tokens)
        attributes = self._attributes(claim.epoch, self._worker) | {
            "llmactors.attempt": claim.attempt,
            "llmactors.quarantined": claim.quarantined,
            "llmactors.tokens.before": len(claim.tokens),
            "llmactors.tokens.made": made,
        }
        error = ""
        if how:
            attributes["llmactors.ended"] = how
            error = how if how == ClaimEnd.CRASHED.value else ""
        elif running.end is not None:
            attributes |= end_attributes(running.end)
            error = running.end.code if isinstance(running.end, Failed) else ""
        events = (SpanEvent("first token", self._first_ns, {"llmactors.seq": len(claim.tokens) + 1}),) if made else ()
        span_id = self._put_claim(claim.epoch, self._begun_ns, now_ns, attributes, error, events)
        if self._first_ns:
            self._put(
                "decode", self._tracer.new_span_id(), span_id, self._first_ns, now_ns, {"llmactors.tokens.made": made}
            )

    def put_claim_before(self) -> None:
        """Makes the span of the claim before, whose worker is gone."""
        note, earlier = self._claim.earlier[-1], self._claim.earlier[:-1]
        ended = "" if note.ended is None else note.ended.value
        begun_ns = note.at_ms * 1_000_000
        attributes = self._attributes(note.epoch, note.worker) | {
            "llmactors.ended": ended,
            "llmactors.told_by": self._worker,
        }
        self._put_claim(note.epoch, begun_ns, max(begun_ns, self._queued_ns), attributes, ended, (), earlier)

    def _attributes(self, epoch: int, worker: str) -> dict[str, Value]:
        return request_attributes(self._claim.request) | {"llmactors.epoch": epoch, "llmactors.worker": worker}

    def _put_claim(
        self,
        epoch: int,
        begun_ns: int,
        ended_ns: int,
        attributes: Attributes,
        error: str,
        events: tuple[SpanEvent, ...],
        earlier: tuple[ClaimNote, ...] | None = None,
    ) -> int:
        """Makes the span of a claim, and returns the id of the span."""
        span_id = claim_span_id(self._trace_id, self._claim.request.id, epoch)
        before = self._claim.earlier if earlier is None else earlier
        self._tracer.put(
            TraceSpan(
                name="claim",
                trace_id=self._trace_id,
                span_id=span_id,
                parent_id=int(self._context.span_id, 16),
                begun_ns=begun_ns,
                ended_ns=ended_ns,
                state=self._context.state,
                attributes=attributes,
                events=events,
                links=(self._link(before[-1]),) if before else (),
                error=error,
            )
        )
        return span_id

    def _link(self, before: ClaimNote) -> SpanLink:
        attributes: dict[str, Value] = {
            "llmactors.cause": "unknown" if before.ended is None else before.ended.value,
            "llmactors.worker": before.worker,
            "llmactors.epoch": before.epoch,
        }
        return SpanLink(claim_span_id(self._trace_id, self._claim.request.id, before.epoch), attributes)

    def _put(
        self, name: str, span_id: int, parent_id: int, begun_ns: int, ended_ns: int, attributes: Attributes
    ) -> None:
        self._tracer.put(
            TraceSpan(
                name=name,
                trace_id=self._trace_id,
                span_id=span_id,
                parent_id=parent_id,
                begun_ns=begun_ns,
                ended_ns=ended_ns,
                state=self._context.state,
                attributes=attributes,
            )
        )
