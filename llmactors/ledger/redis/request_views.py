"""What operators see of requests, from the replies of the functions in `operators.lua`."""

from typing import Any

import attrs

from llmactors.ledger.inspection import RequestTimes, RequestView
from llmactors.ledger.redis import codec

_STATES = {b"q": "queued", b"r": "running", b"e": "ended"}


def to_state(state: bytes) -> str:
    """The state of a request from the field `st` of its hash."""
    return _STATES[state]


@attrs.frozen
class OpenRequest:
    """A request that has not ended, from a reply of the function `open_requests`."""

    view: RequestView
    admitted_ms: int
    queued_ms: int
    cost: float


def to_open_request(found: list[bytes], now_ms: int) -> OpenRequest:
    """One request of the reply. `now_ms` is the time of the reply, in milliseconds since 1970."""
    id_, model, tenant, priority, state, admitted, tokens, attempt, epoch, holder, claims, queued, cost, usage = found
    queued_ms = int(queued or 0)
    admitted_ms = int(admitted or queued_ms)  # a node of an older version wrote no time
    view = RequestView(
        id=id_.decode(),
        tenant=tenant.decode(),
        model=model.decode(),
        priority=int(priority),
        state=to_state(state),
        age_s=max(0, now_ms - admitted_ms) / 1000,
        tokens=int(tokens),
        attempt=int(attempt),
        epoch=int(epoch),
        worker=holder.decode() or None,
        takeovers=max(0, int(claims or 0) - 1),
        key_id=codec.decode_usage_key(usage) if usage else "",
    )
    return OpenRequest(view, admitted_ms, queued_ms, float(cost or 0))


def to_request_times(found: list[Any]) -> RequestTimes:
    """What follows `known` in the reply of the function `request_times`."""
    now, fields, first_token, ended, end, claims = found
    request = to_open_request(fields, int(now))
    return RequestTimes(
        view=request.view,
        admitted_ms=request.admitted_ms,
        first_token_ms=int(first_token) if first_token else None,
        ended_ms=int(ended) if ended else None,
        end=codec.decode_end(end) if end else None,
        claims=codec.to_claim_notes(claims),
    )
