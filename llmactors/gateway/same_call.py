"""Whether two calls with the same idempotency key ask for the same. Pure."""

import attrs

from llmactors.messages import GenerateRequest


def is_same_call(known: GenerateRequest, request: GenerateRequest) -> bool:
    """Whether `request` asks for what the request with the same key asked for that is `known`."""
    # Two calls come at different times and so have different deadlines, and their headers may name different
    # conversations. The operator sets weight, grace, retention and price, and a tenant may have several keys. A
    # value that the client gave is the same as an equal default.
    same = attrs.evolve(
        known,
        reasoning_tags=request.reasoning_tags,
        defaulted=request.defaulted,
        created_ms=request.created_ms,
        deadline_ms=request.deadline_ms,
        timeout_ms=request.timeout_ms,
        weight=request.weight,
        resume_grace_ms=request.resume_grace_ms,
        retention_ms=request.retention_ms,
        conversation=request.conversation,
        follows_up=request.follows_up,
        key_id=request.key_id,
        price=request.price,
        trace=request.trace,
    )
    return same == request
