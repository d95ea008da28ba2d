"""What one request costs its caller, limit by limit, and how the caller stands then. Pure."""

import enum
import hashlib
from collections.abc import Iterable

import attrs

from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import Decision, RateKind, RatePolicy
from llmactors.messages import Failed, Terminal

_MINUTE_S, _DAY_S = 60.0, 86_400.0


class Limit(enum.Enum):
    """What is limited. The value names it in headers and metrics."""

    RATE = "rate"
    """Requests of one caller, as the node's `rate_limit` has it."""
    REQUESTS = "requests"
    TOKENS = "tokens"
    DAY = "tokens-per-day"
    CONCURRENT = "concurrent"

    @property
    def of_tokens(self) -> bool:
        """Whether it counts tokens: then a charge is a reservation, which is settled at the request's end."""
        return self in {Limit.TOKENS, Limit.DAY}


@attrs.frozen
class Charge:
    """What a request costs of one limit."""

    limit: Limit
    key: str
    """Whose use is counted. Equal for all charges that count together."""
    policy: RatePolicy | None
    """None for CONCURRENT, which no time gives back, only an end."""
    most: int
    """No more at once."""
    cost: int = 1


@attrs.frozen
class Standing:
    """How a caller stands with one limit after its request was admitted, or refused."""

    charge: Charge
    """Of all that was asked for at once."""
    decision: Decision


def charges_for(
    limits: Limits, tenant: str, *, tokens: int, rate: RatePolicy | None = None, limit_key: str = ""
) -> tuple[Charge, ...]:
    """What one request of `tokens` (its prompt and its longest answer) is charged.

    Args:
        limits: Of the tenant.
        tenant: Whose they are.
        tokens: At most so many will be used, as far as can be said.
        rate: The node's own limit on each caller.
        limit_key: What `rate` counts by.
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
    return tuple(charges)


def _rated(limit: Limit, who: str, policy: RatePolicy, cost: int) -> Charge:
    # A state means something to one algorithm and one period only; a changed amount takes it over.
    return Charge(
        limit, f"{limit.value}:{policy.kind.value}:{policy.period_us}:{_short(who)}", policy, policy.limit, cost
    )


def _short(who: str) -> str:
    return who if len(who) <= 64 else hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()


def add_up(charges: Iterable[Charge]) -> list[Charge]:
    """One charge per key, in the order in which they come: the cost of all of them together."""
    together: dict[str, Charge] = {}
    for charge in charges:
        before = together.get(charge.key)
        together[charge.key] = charge if before is None else attrs.evolve(before, cost=before.cost + charge.cost)
    return list(together.values())


def tokens_used(end: Terminal, *, started: bool, logged: int, prompt_estimate: int) -> int:
    """What a request has used that ended so. Where nobody can say, rather too much.

    Args:
        end: Its terminal event.
        started: Whether a worker ever had it in hand, so that its prompt may have been processed.
        logged: The tokens in its log.
        prompt_estimate: What its prompt was reserved as.
    """
    known = 0 if end.usage is None else end.usage.prompt_tokens
    refused = isinstance(end, Failed) and end.code == "INVALID_REQUEST"
    prompt = known if known > 0 or refused or not started else prompt_estimate
    return prompt + max(logged, 0 if end.usage is None else end.usage.completion_tokens)
