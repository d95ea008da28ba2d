"""What one request costs its caller, limit by limit, and how much of each limit is left. Pure."""

import enum
import hashlib
from collections.abc import Iterable

import attrs

from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import LimitDecision, RateKind, RatePolicy

_MINUTE_S, _DAY_S = 60.0, 86_400.0
_PERIODS = {"day": (RateKind.FIXED_WINDOW, _DAY_S), "month": (RateKind.CALENDAR_MONTH, 31 * _DAY_S)}
"""How budgets are counted."""


class Limit(enum.Enum):
    """The kinds of limits. The value is the name in headers and metrics."""

    RATE = "rate"
    """Requests of one caller, limited by the node's setting `rate_limit`."""
    REQUESTS = "requests"
    TOKENS = "tokens"
    DAY = "tokens-per-day"
    CONCURRENT = "concurrent"

    DAY_BUDGET = "budget-per-day"
    MONTH_BUDGET = "budget-per-month"
    KEY_DAY_BUDGET = "key-budget-per-day"
    KEY_MONTH_BUDGET = "key-budget-per-month"

    @property
    def of_tokens(self) -> bool:
        """Whether the limit counts tokens. Such a charge is a reservation, settled when the request ends."""
        return self in {Limit.TOKENS, Limit.DAY}

    @property
    def of_money(self) -> bool:
        """Whether the limit counts money, in billionths of the currency's unit. A reservation, as for tokens."""
        return self in _BUDGETS.values()


_BUDGETS = {
    ("tenant", "day"): Limit.DAY_BUDGET,
    ("tenant", "month"): Limit.MONTH_BUDGET,
    ("key", "day"): Limit.KEY_DAY_BUDGET,
    ("key", "month"): Limit.KEY_MONTH_BUDGET,
}


@attrs.frozen
class Charge:
    """What a request costs of one limit."""

    limit: Limit
    key: str
    """Identifies the count. Charges with the same key are counted together."""
    policy: RatePolicy | None
    """None for CONCURRENT: a permit comes back when the request ends, and not after a time."""
    most: int
    """The most that can be used at once."""
    cost: int = 1


@attrs.frozen
class Standing:
    """How much of one limit a caller has left after a request was admitted or refused."""

    charge: Charge
    """The charge of all requests of the call together."""
    decision: LimitDecision


def charges_for(
    limits: Limits,
    tenant: str,
    *,
    tokens: int,
    cost_nano: int = 0,
    key_id: str = "",
    rate: RatePolicy | None = None,
    limit_key: str = "",
) -> tuple[Charge, ...]:
    """What one request is charged.

    Args:
        limits: The limits of the tenant.
        tenant: The tenant that the request belongs to.
        tokens: The estimate of the most tokens that the request can use: its prompt and its longest answer.
        cost_nano: The most that the request can cost.
        key_id: The API key, for the budgets of keys.
        rate: The node's own limit on each caller; None for no such limit.
        limit_key: Identifies the caller for `rate`.
    """
    charges: list[Charge] = []
    if rate is not None:
        charges.append(_rated(Limit.RATE, limit_key, rate, 1))
    if limits.requests_per_minute is not None:
        policy = RatePolicy(amount=limits.requests_per_minute, period_s=_MINUTE_S)
        charges.append(_rated(Limit.REQUESTS, tenant, policy, 1))
    if limits.tokens_per_minute is not None:
        policy = RatePolicy(amount=limits.tokens_per_minute, period_s=_MINUTE_S)
        charges.append(_rated(Limit.TOKENS, tenant, policy, tokens))
    if limits.tokens_per_day is not None:
        policy = RatePolicy(kind=RateKind.FIXED_WINDOW, amount=limits.tokens_per_day, period_s=_DAY_S)
        charges.append(_rated(Limit.DAY, tenant, policy, tokens))
    if limits.concurrent is not None:
        charges.append(Charge(Limit.CONCURRENT, f"open:{_short(tenant)}", None, limits.concurrent))
    for budget in limits.budgets:
        kind, period_s = _PERIODS[budget.period]
        policy = RatePolicy(kind=kind, amount=budget.amount_nano, period_s=period_s)
        who = tenant if budget.of == "tenant" else f"{tenant}:{key_id}"
        charges.append(_rated(_BUDGETS[budget.of, budget.period], who, policy, cost_nano))
    return tuple(charges)


def _rated(limit: Limit, who: str, policy: RatePolicy, cost: int) -> Charge:
    # A state is valid for one algorithm and one period only, so both are in the key. The amount may change.
    return Charge(
        limit, f"{limit.value}:{policy.kind.value}:{policy.period_us}:{_short(who)}", policy, policy.limit, cost
    )


def _short(who: str) -> str:
    return who if len(who) <= 64 else hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()


def add_up(charges: Iterable[Charge]) -> list[Charge]:
    """One charge for each key, with the costs of all charges of the key, in the order of the first ones."""
    together: dict[str, Charge] = {}
    for charge in charges:
        before = together.get(charge.key)
        together[charge.key] = charge if before is None else attrs.evolve(before, cost=before.cost + charge.cost)
    return list(together.values())
