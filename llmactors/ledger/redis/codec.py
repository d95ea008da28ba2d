"""What is stored in Redis and pushed by it, as bytes: all of it MessagePack.

- A request is a map, so that nodes of different versions understand each other.
- Tokens are one flat array, `[id, text, id, text, …]`; text that is not valid Unicode, as half of a surrogate pair, is
  written as bytes.
- A terminal event is `["f", reason, prompt tokens, completion tokens]` or `["x", code, message, prompt tokens,
  completion tokens]`, with -1 for usage that is not known.
- A push is `[[request id, epoch, seq of the first token, tokens, terminal event or nil], …]`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from llmactors.errors import InvalidRequest
from llmactors.ledger.core.backlog import queue_entry
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import AdmitResult, AppendEntry, Candidate, Claim, DeadRequest, SubmitOutcome
from llmactors.limiter.algorithms import ALGORITHMS
from llmactors.limiter.charges import Charge, Standing, add_up
from llmactors.limiter.permits import permit_decision
from llmactors.limiter.policy import RateKind, State
from llmactors.messages import Failed, Finished, GenerateRequest, Terminal, TokenDelta, Usage

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_request = msgspec.msgpack.Decoder(GenerateRequest).decode

_KINDS = {RateKind.GCRA: 0, RateKind.FIXED_WINDOW: 1}
_PERMIT = 2

Push = tuple[str, int, int, list[TokenDelta], Terminal | None]


def encode_request(request: GenerateRequest) -> bytes:
    """Equal requests give equal bytes. Raises `InvalidRequest` for text that is no text."""
    try:
        return _encode(request)
    except UnicodeEncodeError as error:
        raise InvalidRequest("the request holds text that is not valid Unicode") from error


def decode_request(body: bytes) -> GenerateRequest:
    """The request again, equal to what was encoded."""
    return _decode_request(body)


def encode_tokens(deltas: Sequence[TokenDelta]) -> bytes:
    """Any tokens, of whatever text."""
    try:
        return _encode([value for delta in deltas for value in (delta.token, delta.text)])
    except UnicodeEncodeError:
        return _encode([value for delta in deltas for value in (delta.token, _as_bytes(delta.text))])


def decode_tokens(blob: bytes) -> list[TokenDelta]:
    """As `encode_tokens` was given."""
    return _pair_up(_decode(blob))


def encode_end(end: Terminal) -> bytes:
    """Equal ends give equal bytes."""
    if isinstance(end, Finished):
        return _encode(("f", end.reason, end.usage.prompt_tokens, end.usage.completion_tokens))
    usage = (-1, -1) if end.usage is None else (end.usage.prompt_tokens, end.usage.completion_tokens)
    return _encode(("x", end.code, as_text(end.message), *usage))


def decode_end(blob: bytes) -> Terminal:
    """Also of an end that Redis itself wrote."""
    return _to_end(_decode(blob))


def decode_pushes(payload: bytes) -> Iterable[Push]:
    """What one step brought to the logs that a gateway reads."""
    for request_id, epoch, first_seq, tokens, end in _decode(payload):
        yield request_id, epoch, first_seq, _pair_up(tokens), None if end is None else _to_end(end)


def encode_settings(
    settings: LedgerSettings, *, reader_s: float, outage_s: float, hung_up_s: float, keep_s: float
) -> bytes:
    """What the functions need of the settings, in milliseconds."""
    return _encode(
        {
            "lease_ms": round(settings.lease_s * 1000),
            "retention_ms": round(settings.retention_s * 1000),
            "tombstone_ms": round(settings.tombstone_s * 1000),
            "quarantine_from": settings.quarantine_from_attempt,
            "suspects_together": settings.suspects_together,
            "max_queued": settings.max_queued,
            "max_queued_bytes": settings.max_queued_bytes,
            "dead_letters_kept": settings.dead_letters_kept,
            "dead_workers_kept": settings.dead_workers_kept,
            "retained_max": settings.retained_max,
            "retained_tokens_max": settings.retained_tokens_max,
            "reader_ms": round(reader_s * 1000),
            "outage_ms": round(outage_s * 1000),
            "hung_up_ms": round(hung_up_s * 1000),
            "keep_ms": round(keep_s * 1000),
        }
    )


def fields_of(candidate: Candidate) -> tuple[str | int, ...]:
    """What the functions look at: model, tenant, class, cost, bytes, deadline, grace."""
    request, size = candidate.request, candidate.size
    cost = repr(float(queue_entry(request, size).cost))
    deadline = "" if request.deadline_ms is None else request.deadline_ms
    return request.model, request.tenant, request.priority, cost, size.bytes, deadline, request.resume_grace_ms


def encode_charges(candidate: Candidate) -> bytes:
    """As `limits.lua` takes them, after what the prompt is taken for; nothing for none."""
    if not candidate.charges:
        return b""
    return _encode((candidate.size.prompt_tokens, [_charge_parts(charge) for charge in candidate.charges]))


def candidate_parts(candidate: Candidate) -> tuple[str | int | bytes, ...]:
    """Id, body, what the functions look at, charges. Raises as `encode_request`."""
    request = candidate.request
    return request.id, encode_request(request), *fields_of(candidate), encode_charges(candidate)


def to_verdict(said: list[Any], candidates: Sequence[Candidate]) -> AdmitResult:
    """What the function `submit` says."""
    outcome, now_us, found = said
    charges = add_up(charge for candidate in candidates for charge in candidate.charges)
    standings = (_to_standing(*each, int(now_us)) for each in zip(charges, found, strict=True))
    return AdmitResult(SubmitOutcome(outcome.decode()), tuple(standings))


def append_parts(entries: Iterable[AppendEntry]) -> tuple[bytes, bytes]:
    """The entries as the function `append` takes them: what describes each, and then what is written of each.

    That comes apart because the MessagePack of Redis 7 knows no binary strings. Raises `ValueError` for a seq below 1.
    """
    described: list[str | int] = []
    written: list[bytes] = []
    for entry in entries:
        request_id, epoch, first_seq, deltas = entry.request_id, entry.epoch, entry.first_seq, entry.deltas
        if first_seq < 1:
            raise ValueError(f"seq counts from 1, not from {first_seq}")
        tokens = encode_tokens(deltas) if deltas else b""
        # A push of five parts, whose first three are packed here as a list of their own.
        pushed = b"\x95%b%b\xc0" % (_encode((request_id, epoch, first_seq))[1:], tokens) if deltas else b""
        ending = b"" if entry.end is None else encode_end(entry.end)
        described += (request_id, epoch, first_seq, len(deltas), len(pushed), len(tokens), len(ending))
        written += (pushed, ending)
    return _encode(described), b"".join(written)


def finish_parts(request_id: str, epoch: int, end: Terminal) -> tuple[bytes, bytes]:
    """As `append_parts`, of the terminal event alone, wherever the log ends."""
    ending = encode_end(end)
    return _encode((request_id, epoch, 0, 0, 0, 0, len(ending))), ending


def join(chunks: list[Any]) -> tuple[list[TokenDelta], Terminal | None]:
    """The tokens of some entries of a log, and the terminal event."""
    tokens: list[TokenDelta] = []
    end = None
    for kind, blob in zip(chunks[1::3], chunks[2::3], strict=True):
        if kind == b"e":
            end = decode_end(blob)
        else:
            tokens += decode_tokens(blob)
    return tokens, end


def to_claim(found: list[Any]) -> Claim:
    """What the function `claim` says of one."""
    body, epoch, attempt, quarantined, waited_ms, _, chunks = found
    tokens, _ = join(chunks)
    return Claim(decode_request(body), epoch, attempt, bool(quarantined), tuple(tokens), waited_ms / 1000)


def to_dead_request(flat: list[Any]) -> DeadRequest:
    """One entry of the stream of dead letters."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    cause = fields[b"cause"].decode("utf-8", "replace")
    return DeadRequest(decode_request(fields[b"body"]), int(fields[b"attempt"]), cause, int(fields[b"at"]))


def as_text(text: str) -> str:
    """With what is not valid Unicode replaced."""
    return text.encode("utf-8", "replace").decode()


def _as_bytes(text: str) -> str | bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return text if text.isascii() else encoded


def _pair_up(flat: list[Any]) -> list[TokenDelta]:
    values = iter(flat)
    return [
        TokenDelta(token, text if text.__class__ is str else text.decode("utf-8", "surrogatepass"))
        for token, text in zip(values, values, strict=True)
    ]


def _charge_parts(charge: Charge) -> tuple[object, ...]:
    policy = charge.policy
    if policy is None:
        return charge.key, _PERMIT, 0, charge.most, 0, charge.cost, True
    kind, settled = _KINDS[policy.kind], charge.limit.of_tokens
    return charge.key, kind, policy.amount, charge.most, policy.period_us, charge.cost, settled


def _to_standing(charge: Charge, found: list[Any], now_us: int) -> Standing:
    wait, *fields = (int(number) for number in found)
    told = None if wait < 0 else wait
    state = State(*fields) if fields else None
    if charge.policy is None:
        return Standing(charge, permit_decision(charge, 0 if state is None else state.used, told))
    return Standing(charge, ALGORITHMS[charge.policy.kind].decision(charge.policy, state, now_us, told))


def _to_end(fields: list[Any]) -> Terminal:
    kind, what, *rest = fields
    if kind == "f":
        return Finished(what, Usage(*rest))
    message, *usage = rest
    return Failed(what, message, None if usage[0] < 0 else Usage(*usage))
