"""The formats of what Redis stores and pushes. All of them are MessagePack.

- A request is a map, so that nodes of different versions can read it.
- Tokens are an array with `[id, text, extra or nil]` for each, and an extra is a map. Text that is not valid Unicode,
  such as half of a surrogate pair, is written as bytes.
- A terminal event is `["f", reason, prompt tokens, completion tokens]` or `["x", code, message, prompt tokens,
  completion tokens]`, with -1 for unknown usage. Where tokens of the prompt came from a cache, their number is one more
  element.
- A usage record is an array of the fields of `UsageRecord` but for the first, which is in the id of the stream's entry.
  A sum is an array of the fields of `UsageTotal`, under `[tenant, key id, model]`.
- A push is `[[request id, epoch, seq of the first token, tokens, terminal event or nil], …]`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from llmactors.errors import InvalidRequest
from llmactors.ledger.core.model_queues import queue_entry
from llmactors.ledger.core.usage_spans import Cell
from llmactors.ledger.redis.settings import RedisLedgerSettings
from llmactors.ledger.settings import TOKEN_BYTES, LedgerSettings
from llmactors.ledger.usage import UsageRecord, UsageTotal
from llmactors.ledger.values import (
    CLAIM_DETAIL_CHARS,
    CLAIMS_KEPT,
    AdmitResult,
    AppendEntry,
    Candidate,
    Claim,
    ClaimEnd,
    ClaimNote,
    DeadRequest,
    SlotOffer,
    SubmitOutcome,
)
from llmactors.limiter.algorithms import ALGORITHMS
from llmactors.limiter.charges import Charge, Standing, add_up
from llmactors.limiter.permits import permit_decision
from llmactors.limiter.policy import RateKind, RateState
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, TokenExtra, Usage

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_tokens = msgspec.msgpack.Decoder(list[TokenDelta]).decode
_decode_pushes = msgspec.msgpack.Decoder(list[tuple[str, int, int, list[TokenDelta], Any]]).decode
_decode_request = msgspec.msgpack.Decoder(GenerateRequest).decode

_decode_cell = msgspec.msgpack.Decoder(tuple[str, str, str]).decode
_decode_counts = msgspec.msgpack.Decoder(UsageTotal).decode

_KINDS = {RateKind.GCRA: 0, RateKind.FIXED_WINDOW: 1, RateKind.CALENDAR_MONTH: 3}
_PERMIT = 2
_TOKENS, _MONEY = 1, 2
"""In what a charge is settled."""

Push = tuple[str, int, int, list[TokenDelta], Terminal | None]


def encode_request(request: GenerateRequest) -> bytes:
    """Equal requests give equal bytes. Raises `InvalidRequest` for text that is not valid Unicode."""
    try:
        return _encode(request)
    except UnicodeEncodeError as error:
        raise InvalidRequest("the request holds text that is not valid Unicode") from error


def decode_request(body: bytes) -> GenerateRequest:
    """A request equal to the one that was encoded."""
    return _decode_request(body)


def encode_tokens(deltas: Sequence[TokenDelta]) -> bytes:
    """Tokens of any text, valid Unicode or not."""
    try:
        return _encode(deltas)
    except UnicodeEncodeError:
        return _encode([(delta.token, _as_bytes(delta.text), _as_valid(delta.extra)) for delta in deltas])


def decode_tokens(blob: bytes) -> list[TokenDelta]:
    """The tokens that `encode_tokens` was given."""
    try:
        return _decode_tokens(blob)
    except msgspec.ValidationError:
        return _to_tokens(_decode(blob))


def encode_end(end: Terminal) -> bytes:
    """Equal ends give equal bytes."""
    if isinstance(end, Finished):
        return _encode(("f", end.reason, *_usage_parts(end.usage)))
    return _encode(("x", end.code, as_text(end.message), *((-1, -1) if end.usage is None else _usage_parts(end.usage))))


def _usage_parts(usage: Usage) -> tuple[int, ...]:
    parts = usage.prompt_tokens, usage.completion_tokens
    return (*parts, usage.cached_tokens) if usage.cached_tokens else parts


def decode_end(blob: bytes) -> Terminal:
    """A terminal event, which `encode_end` or a function in Redis wrote."""
    return _to_end(_decode(blob))


def decode_pushes(payload: bytes) -> Iterable[Push]:
    """The new entries in a push, one for each log that has grown."""
    try:
        found = _decode_pushes(payload)
    except msgspec.ValidationError:
        found = [(*head, _to_tokens(tokens), end) for *head, tokens, end in _decode(payload)]
    for request_id, epoch, first_seq, tokens, end in found:
        yield request_id, epoch, first_seq, tokens, None if end is None else _to_end(end)


def encode_settings(settings: LedgerSettings, redis_settings: RedisLedgerSettings) -> bytes:
    """The settings that the functions need; times in milliseconds."""
    return _encode(
        {
            "lease_ms": round(settings.lease_s * 1000),
            "retention_ms": round(settings.retention_s * 1000),
            "longest_read_ms": round(settings.longest_read_s * 1000),
            "tombstone_ms": round(settings.tombstone_s * 1000),
            "quarantine_from": settings.quarantine_from_attempt,
            "progress_tokens": settings.progress_tokens,
            "suspects_together": settings.suspects_together,
            "max_queued": settings.max_queued,
            "max_queued_bytes": settings.max_queued_bytes,
            "claims_kept": CLAIMS_KEPT,
            "claim_detail_bytes": CLAIM_DETAIL_CHARS,
            "dead_letters_kept": settings.dead_letters_kept,
            "dead_workers_kept": settings.dead_workers_kept,
            "retained_max": settings.retained_max,
            "retained_tokens_max": settings.retained_tokens_max,
            "token_bytes": TOKEN_BYTES,
            "affinity_wait_ms": round(settings.affinity_wait_s * 1000),
            "preempt_after_ms": round(settings.preempt_after_s * 1000),
            "preemptions_max": settings.preemptions_max,
            "preemptions_per_s": settings.preemptions_per_s,
            "affinity_lead_max": settings.affinity_lead_max,
            "conversations_max": settings.conversations_max,
            "conversation_kept_ms": round(settings.conversation_kept_s * 1000),
            "gateway_lease_ms": round(redis_settings.gateway_lease_s * 1000),
            "outage_ms": round(redis_settings.outage_s * 1000),
            "disconnect_grace_ms": round(redis_settings.disconnect_grace_s * 1000),
            "key_ttl_ms": round(redis_settings.key_ttl_s * 1000),
            "usage_records_max": settings.usage_records_max,
            "usage_records_ms": round(settings.usage_records_s * 1000),
            "usage_sums_max": settings.usage_sums_max,
            "usage_hours_ms": round(settings.usage_hours_s * 1000),
            "usage_days_ms": round(settings.usage_days_s * 1000),
        }
    )


def fields_of(candidate: Candidate, *, waited_ms: int = 0) -> tuple[str | int | bytes, ...]:
    """The fields that the functions use: model, tenant, class, cost, bytes, deadline, grace, retention,
    conversation, which begins with `+` where the request follows up, and what the usage record needs.

    `waited_ms` is how long ago the request was admitted, for a request that Redis forgot.
    """
    request, size = candidate.request, candidate.size
    cost = repr(float(queue_entry(request, size).cost))
    deadline = "" if request.deadline_ms is None else str(request.deadline_ms)
    if request.timeout_ms is not None:
        deadline += f"+{max(0, request.timeout_ms - waited_ms)}"
    retention = "" if request.retention_ms is None else request.retention_ms
    queued = request.model, request.tenant, request.priority, cost, size.bytes
    conversation = f"+{request.conversation}" if request.follows_up else request.conversation
    price = () if request.price is None else msgspec.structs.astuple(request.price)
    usage = _encode((request.key_id, size.prompt_tokens, *price))
    return *queued, deadline, request.resume_grace_ms, retention, conversation, usage


def decode_usage_key(usage: bytes) -> str:
    """The id of the API key from what the usage record of a request repeats."""
    return str(_decode(usage)[0])


def encode_charges(candidate: Candidate) -> bytes:
    """The charges as `limits.lua` takes them; empty for no charges."""
    if not candidate.charges:
        return b""
    return _encode([_charge_parts(charge) for charge in candidate.charges])


def candidate_parts(candidate: Candidate) -> tuple[str | int | bytes, ...]:
    """One request of a `submit`: id, body, fields, charges. Raises as `encode_request`."""
    request = candidate.request
    return request.id, encode_request(request), *fields_of(candidate), encode_charges(candidate)


def to_admit_result(reply: list[Any], candidates: Sequence[Candidate]) -> AdmitResult:
    """The reply of the function `submit`."""
    outcome, *found = reply
    charges = add_up(charge for candidate in candidates for charge in candidate.charges)
    return AdmitResult(SubmitOutcome(outcome.decode()), tuple(to_standings(found, charges)))


def encode_charge_list(charges: Sequence[Charge]) -> bytes:
    """The charges as the function `standings` takes them."""
    return _encode([_charge_parts(charge) for charge in charges])


def to_standings(found: list[Any], charges: Sequence[Charge]) -> list[Standing]:
    """The time in us, and how the caller stands with each limit, from the reply of a function. No key comes twice."""
    now_us, states = found
    return [_to_standing(*each, int(now_us)) for each in zip(charges, states, strict=True)]


def append_parts(entries: Iterable[AppendEntry]) -> tuple[bytes, bytes]:
    """The entries as the function `append` takes them: a description of each, and the bytes that are written for each.

    The two are apart because the MessagePack of Redis 7 has no binary strings. Raises `ValueError` for a seq below 1.
    """
    described: list[str | int] = []
    written: list[bytes] = []
    for entry in entries:
        request_id, epoch, first_seq, deltas = entry.request_id, entry.epoch, entry.first_seq, entry.deltas
        if first_seq < 1:
            raise ValueError(f"seq counts from 1, not from {first_seq}")
        tokens = encode_tokens(deltas) if deltas else b""
        # A push has five parts. The first three are encoded as a list of their own, whose header is cut off.
        pushed = b"\x95%b%b\xc0" % (_encode((request_id, epoch, first_seq))[1:], tokens) if deltas else b""
        ending = b"" if entry.end is None else encode_end(entry.end)
        described += (request_id, epoch, first_seq, len(deltas), len(pushed), len(tokens), len(ending))
        written += (pushed, ending)
    return _encode(described), b"".join(written)


def finish_parts(request_id: str, epoch: int, end: Terminal) -> tuple[bytes, bytes]:
    """As `append_parts`, for a terminal event alone, after the last entry of the log."""
    ending = encode_end(end)
    return _encode((request_id, epoch, 0, 0, 0, 0, len(ending))), ending


def encode_offers(offers: Sequence[SlotOffer]) -> bytes:
    """The id, the epoch and the greatest length of the log of each offer."""
    return _encode([part for each in offers for part in (each.request_id, each.epoch, each.tokens)])


def join(chunks: list[Any]) -> tuple[list[TokenDelta], Terminal | None]:
    """The tokens of some entries of a log, and the terminal event if it is among them."""
    tokens: list[TokenDelta] = []
    end = None
    for kind, blob in zip(chunks[1::3], chunks[2::3], strict=True):
        if kind == b"e":
            end = decode_end(blob)
        else:
            tokens += decode_tokens(blob)
    return tokens, end


def to_claim(found: list[Any]) -> tuple[int, Claim]:
    """One claim from the reply of the function `claim`, and its order among all claims."""
    body, epoch, attempt, quarantined, waited_ms, _, chunks, notes, order = found
    tokens, _ = join(chunks)
    earlier = to_claim_notes(notes)[:-1]
    request = decode_request(body)
    claim = Claim(request, epoch, attempt, bool(quarantined), tuple(tokens), waited_ms / 1000, earlier)
    return order, claim


def to_claim_notes(text: bytes) -> tuple[ClaimNote, ...]:
    """The claims of a request from the field `cs` of its hash."""
    lines = text.decode("utf-8", "replace").split("\n")
    return tuple(_to_claim_note(*line.split("\t")) for line in lines if line)


def _to_claim_note(epoch: str, at_ms: str, worker: str, ended: str = "", detail: str = "") -> ClaimNote:
    return ClaimNote(int(epoch), worker, int(at_ms), ClaimEnd(ended) if ended else None, detail)


def to_dead_request(flat: list[Any]) -> DeadRequest:
    """One entry of the stream of dead letters."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    cause = fields[b"cause"].decode("utf-8", "replace")
    return DeadRequest(decode_request(fields[b"body"]), int(fields[b"attempt"]), cause, int(fields[b"at"]))


def to_usage_record(entry: bytes, flat: list[Any]) -> UsageRecord:
    """One entry of the stream of usage records."""
    return UsageRecord(int(entry.partition(b"-")[0]), *_decode(flat[1]))


def to_usage_sums(flat: list[Any]) -> list[tuple[Cell, UsageTotal]]:
    """The sums of one hour or day."""
    cells = zip(flat[::2], flat[1::2], strict=True)
    return [(_decode_cell(cell), _decode_counts(counts)) for cell, counts in cells]


def as_text(text: str) -> str:
    """The text with a question mark for each part that is not valid Unicode."""
    return text.encode("utf-8", "replace").decode()


def _as_bytes(text: str) -> str | bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return text if text.isascii() else encoded


def _as_valid(extra: TokenExtra | None) -> TokenExtra | None:
    """The extra with only valid Unicode in its texts."""
    if extra is None:
        return None
    calls = (
        msgspec.structs.replace(call, id=as_text(call.id), name=as_text(call.name), arguments=as_text(call.arguments))
        for call in extra.tool_calls
    )
    return msgspec.structs.replace(extra, reasoning=as_text(extra.reasoning), tool_calls=tuple(calls))


def _to_tokens(found: list[Any]) -> list[TokenDelta]:
    """The tokens of an array in which a text may be written as bytes."""
    return [
        TokenDelta(token, _to_text(text), None if extra is None else msgspec.convert(extra, TokenExtra))
        for token, text, extra in found
    ]


def _to_text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


def _charge_parts(charge: Charge) -> tuple[object, ...]:
    policy = charge.policy
    if policy is None:
        return charge.key, _PERMIT, 0, charge.most, 0, charge.cost, _TOKENS
    kind = _KINDS[policy.kind]
    settled = _MONEY if charge.limit.of_money else _TOKENS if charge.limit.of_tokens else None
    return charge.key, kind, policy.amount, charge.most, policy.period_us, charge.cost, settled


def _to_standing(charge: Charge, found: list[Any], now_us: int) -> Standing:
    wait, *fields = (int(number) for number in found)
    told = None if wait < 0 else wait
    state = RateState(*fields) if fields else None
    if charge.policy is None:
        return Standing(charge, permit_decision(charge, 0 if state is None else state.used, told))
    return Standing(charge, ALGORITHMS[charge.policy.kind].decision(charge.policy, state, now_us, told))


def _to_end(fields: list[Any]) -> Terminal:
    kind, what, *rest = fields
    if kind == "f":
        return Finished(what, Usage(*rest))
    message, *usage = rest
    return Failed(what, message, None if usage[0] < 0 else Usage(*usage))
