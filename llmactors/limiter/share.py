"""One gateway's share of a limit that holds over all gateways. Pure."""

import attrs

from llmactors.limiter.charges import Charge


def share_of(charge: Charge, gateways: int) -> Charge:
    """The part of a limit that this gateway may admit by itself while nothing counts for all gateways; at least 1.

    If there are more gateways than the limit admits, each gateway may still admit one.
    """
    most = max(1, charge.most // gateways)
    cost = min(charge.cost, most)
    if charge.policy is None:
        return attrs.evolve(charge, most=most, cost=cost)
    amount = max(1, charge.policy.amount // gateways)
    policy = attrs.evolve(charge.policy, amount=amount, burst=None if charge.policy.burst is None else most)
    return attrs.evolve(charge, policy=policy, most=most, cost=cost)
