"""What operators see of requests, from the replies of the functions in `inspection.lua`."""

from typing import Any

from llmactors.ledger.inspection import QueueShare, RequestTimes, RequestView
from llmactors.ledger.redis import codec

_STATES = {b"q": "queued", b"r": "running", b"e": "ended"}


def to_state(state: bytes) -> str:
    """The state of a request from the field `st` of its hash."""
    return _STATES[state]


def to_open_request(found: list[bytes], now_ms: int) -> RequestView:
    """One request from a reply. `now_ms` is the time of the reply, in milliseconds since 1970."""
    id_, model, tenant, priority, state, admitted, tokens, attempt, epoch, holder, claims, usage = found
    return RequestView(
        id=id_.decode(),
        tenant=tenant.decode(),
        model=model.decode(),
        priority=int(priority),
        state=to_state(state),
        age_s=max(0, now_ms - int(admitted or now_ms)) / 1000,
        tokens=int(tokens),
        attempt=int(attempt),
        epoch=int(epoch),
        worker=holder.decode() or None,
        takeovers=max(0, int(claims or 0) - 1),
        key_id=codec.decode_usage_key(usage) if usage else "",
    )


def to_queue_shares(model: str, reply: list[Any]) -> list[QueueShare]:
    """What waits for one model, from the reply of the function `queue_shares`."""
    now, _, *found = reply
    rows = zip(found[::5], found[1::5], found[2::5], found[3::5], found[4::5], strict=True)
    return [
        QueueShare(model, int(class_), tenant.decode(), length, float(cost), max(0, int(now) - int(queued)) / 1000)
        for class_, tenant, length, cost, queued in rows
    ]


def to_request_times(found: list[Any]) -> RequestTimes:
    """What follows `known` in the reply of the function `request_times`."""
    now, fields, first_token, ended, end, claims = found
    return RequestTimes(
        view=to_open_request(fields, int(now)),
        admitted_ms=int(fields[5] or now),
        first_token_ms=int(first_token) if first_token else None,
        ended_ms=int(ended) if ended else None,
        end=codec.decode_end(end) if end else None,
        claims=codec.to_claim_notes(claims),
    )
