"""The messages that tell a worker what was handed to it."""

from llmactors.ledger.redis.codec import to_claim
from llmactors.ledger.values import Claim


def to_handed_out(payload: bytes) -> tuple[str, str, int, list[tuple[int, Claim]]]:
    """A message with requests that were handed out: the worker, the model, how many slots stay open there, and the
    claims with their orders.
    """
    found, at = [], 1
    while at < len(payload):
        begin = at + 4
        at = begin + int.from_bytes(payload[at:begin], "big")
        found.append(payload[begin:at])
    worker, model, still_open = found[:3]
    fields = iter(found[3:])
    claims = []
    for body in fields:
        epoch, attempt, quarantined, waited_ms, tokens, count = (int(next(fields)) for _ in range(6))
        notes, order = next(fields), int(next(fields))
        chunks = [next(fields) for _ in range(count)]
        claims.append(to_claim([body, epoch, attempt, quarantined, waited_ms, tokens, chunks, notes, order]))
    return worker.decode(), model.decode(), int(still_open), claims
