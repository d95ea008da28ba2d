"""One gateway's share of what a caller may use over all gateways. Pure."""

import attrs

from llmactors.limiter.charges import Charge


def share_of(charge: Charge, gateways: int) -> Charge:
    """What this gateway may let through by itself of a limit while nobody counts for all of them; at least 1 at once.

    So with more gateways than the limit has room for, all together may let through one each.
    """
    most = max(1, charge.most // gateways)
    cost = min(charge.cost, most)
    if charge.policy is None:
        return attrs.evolve(charge, most=most, cost=cost)
    amount = max(1, charge.policy.amount // gateways)
    policy = attrs.evolve(charge.policy, amount=amount, burst=None if charge.policy.burst is None else most)
    return attrs.evolve(charge, policy=policy, most=most, cost=cost)
