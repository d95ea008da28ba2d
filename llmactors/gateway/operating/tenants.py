"""`/v1/operator/tenants`: who may call, within which limits, and how much of these is used."""

import time
from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec

from llmactors.access.keys.record import KeyRecord
from llmactors.gateway.operating.parameters import MAX_ROWS
from llmactors.gateway.operators import OperatedNode
from llmactors.http.exchange import Exchange
from llmactors.ledger.usage import UsageBy, UsageTotal
from llmactors.limiter import Charge, Standing, charges_for
from llmactors.limiter.charges import Limit
from llmactors.limiter.limits import Limits
from llmactors.prices import format_amount

_DAY_MS = 86_400_000
_NAMES = {
    Limit.REQUESTS: "requests_per_minute",
    Limit.TOKENS: "tokens_per_minute",
    Limit.DAY: "tokens_per_day",
    Limit.CONCURRENT: "concurrent",
    Limit.DAY_BUDGET: "budget_per_day",
    Limit.MONTH_BUDGET: "budget_per_month",
}
"""The limits of a tenant, as an answer names them. The budgets of single keys are not among the use of a tenant."""
Amounts = dict[str, int | str]
"""Counts by name, and money as texts."""


class KeyRow(msgspec.Struct, kw_only=True, frozen=True, rename={"class_": "class"}):
    """One API key. Its secret is not known."""

    id: str
    name: str
    state: str
    """`active`, `expired` or `revoked`."""
    operator: bool
    models: Sequence[str] | None
    """The models that the key may use; null for all."""
    class_: int
    """The best priority class that the key may ask for."""
    weight: float
    created_unix_s: float
    expires_unix_s: float | None
    limits: Amounts
    """The limits of the tenant as this key has them, by name; those without a bound are left out."""


@attrs.frozen
class TenantRow:
    """One tenant."""

    tenant: str
    keys: Sequence[KeyRow]
    use: Amounts
    """What is used of each limit now, and what the requests have used that ended today, by days of UTC."""


@attrs.frozen
class Tenants:
    """The tenants that have keys, or had requests today, by name."""

    tenants: Sequence[TenantRow]
    total: int


async def list_tenants(node: OperatedNode, exchange: Exchange) -> None:
    """Shows the tenants with their keys, their limits and their use."""
    now_ms = await node.ledger.now_ms()
    today = await node.ledger.usage_report(now_ms - now_ms % _DAY_MS, now_ms + 1, UsageBy.TENANT)
    used = {each.tenant: each.counts for each in today.sums}
    keys: dict[str, list[KeyRecord]] = {}
    for record in node.auth.key_records():
        keys.setdefault(record.tenant, []).append(record)
    names = sorted({*keys, *used})
    shown = names[:MAX_ROWS]
    charges = {name: _charges_of(name, keys.get(name, ())) for name in shown}
    standings = await node.ledger.standings([charge for found in charges.values() for charge in found])
    by_key = {standing.charge.key: standing for standing in standings}
    now = time.time()
    rows = [
        TenantRow(
            name,
            [_key_row(record, now) for record in keys.get(name, ())[:MAX_ROWS]],
            _used_now(charges[name], by_key) | _used_today(used.get(name, UsageTotal())),
        )
        for name in shown
    ]
    await exchange.answer(200, Tenants(rows, len(names)))


def _charges_of(tenant: str, records: Iterable[KeyRecord]) -> list[Charge]:
    """A charge for each limit of a tenant. Where the keys of the tenant differ, the highest bound counts."""
    highest: dict[str, Charge] = {}
    for record in records:
        for charge in charges_for(record.limits, tenant, tokens=0):
            if charge.limit in _NAMES and (charge.key not in highest or charge.most > highest[charge.key].most):
                highest[charge.key] = charge
    return [*highest.values()]


def _used_now(charges: Iterable[Charge], standings: Mapping[str, Standing]) -> Amounts:
    found: Amounts = {}
    for charge in charges:
        decision = standings[charge.key].decision
        used = max(0, decision.limit - decision.remaining)
        found[_NAMES[charge.limit]] = format_amount(used) if charge.limit.of_money else used
    return found


def _used_today(counts: UsageTotal) -> Amounts:
    return {
        "requests_today": counts.requests,
        "tokens_today": counts.prompt_tokens + counts.completion_tokens,
        "cost_today": format_amount(counts.cost_nano),
    }


def _key_row(record: KeyRecord, now: float) -> KeyRow:
    return KeyRow(
        id=record.id,
        name=record.name,
        state=record.state(now).value,
        operator=record.operator,
        models=None if record.models is None else sorted(record.models),
        class_=record.best_priority,
        weight=record.weight,
        created_unix_s=record.created,
        expires_unix_s=record.expires,
        limits=_limits_of(record.limits),
    )


def _limits_of(limits: Limits) -> Amounts:
    found: Amounts = {name: value for name, value in limits.counts.items() if value is not None}
    for budget in limits.budgets:
        prefix = "" if budget.of == "tenant" else "key_"
        found[f"{prefix}budget_per_{budget.period}"] = format_amount(budget.amount_nano)
    return found
