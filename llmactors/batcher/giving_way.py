"""Which running requests a batcher would give up for requests of more urgent classes. Pure."""

from collections.abc import Iterable

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.backends.messages import Key
from llmactors.batcher.running import Running
from llmactors.ledger import SlotOffer

LAST_TOKENS = 8
"""A request that is this close to its longest answer keeps its slot."""


def offers(running: Iterable[Running], capabilities: Capabilities, now: float, least_turn_s: float) -> list[SlotOffer]:
    """The requests that may give up their slots, the best one first: of the least urgent class, and of that class the
    ones with the fewest tokens, because their tokens may have to be made again.

    None where a batch is static, or where a request runs in quarantine.
    """
    if capabilities.batching is Batching.STATIC:
        return []
    found: list[tuple[int, int, Key]] = []
    for each in running:
        claim, made = each.claim, len(each.deltas)
        if claim.quarantined:
            return []
        may_continue = not made or (capabilities.takeover is not Takeover.RESTART and claim.request.constraint is None)
        is_ending = each.end is not None or made + LAST_TOKENS >= claim.request.max_tokens
        if claim.request.priority and may_continue and not is_ending and now - each.since >= least_turn_s:
            found.append((-claim.request.priority, made, each.key))
    return [SlotOffer(*key, tokens=made) for _, made, key in sorted(found)]
