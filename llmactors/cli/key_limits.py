"""The flags of `keys create` and `keys update` that say what limits a tenant or a key has."""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

from llmactors.errors import ConfigError
from llmactors.limiter.limits import Budget, Limits
from llmactors.prices import parse_amount

NONE = "none"
"""The value of a flag that takes a limit away."""
_BUDGET = re.compile(r"(?P<amount>[^/]+)/(?P<period>day|month)")

BUDGET = Annotated[
    list[str] | None,
    Parameter(
        help="How much money all requests of the tenant may cost in a day or a month of UTC, as in 10/day or "
        "150.50/month. The setting `prices` says what tokens cost. Repeat the flag for both.",
        negative=(),
    ),
]
KEY_BUDGET = Annotated[
    list[str] | None,
    Parameter(help="As --budget, for the requests with this key alone.", negative=()),
]


def changed_limits(
    limits: Limits,
    *,
    counts: dict[str, str | None],
    budgets: Sequence[str] | None,
    key_budgets: Sequence[str] | None,
) -> Limits:
    """`limits` with what the flags say. A flag that was not given changes nothing, and `none` takes a limit away.

    Raises `ConfigError` that names the flag with a wrong value.
    """
    numbers = {name: _number(name, value) for name, value in counts.items() if value is not None}
    kept = [budget for budget in limits.budgets if (budgets is None if budget.of == "tenant" else key_budgets is None)]
    new = [*_budgets("budget", budgets, "tenant"), *_budgets("key-budget", key_budgets, "key")]
    return attrs.evolve(limits, **numbers, budgets=(*kept, *new))


def limits_text(limits: Limits) -> str:
    """The limits for a table of keys."""
    units = ("requests/min", "tokens/min", "tokens/day", "at once")
    counts = zip(limits.counts.values(), units, strict=True)
    found = [f"{count} {unit}" for count, unit in counts if count is not None]
    found += [f"{budget}{' for the key' if budget.of == 'key' else ''}" for budget in limits.budgets]
    return ", ".join(found) or "none"


def _number(name: str, value: str) -> int | None:
    if value == NONE:
        return None
    if not value.isascii() or not value.isdecimal() or len(value) > 15:
        raise ConfigError(f"`{name.replace('_', '-')}` must be a whole number, or `{NONE}`, not {value!r}")
    return int(value)


def _budgets(flag: str, values: Iterable[str] | None, of: Literal["tenant", "key"]) -> list[Budget]:
    return [_budget(flag, value, of) for value in values or () if value != NONE]


def _budget(flag: str, value: str, of: Literal["tenant", "key"]) -> Budget:
    match = _BUDGET.fullmatch(value)
    if match is None:
        raise ConfigError(f"`{flag}` must be an amount and a period, as in 10/day or 150.50/month, not {value!r}")
    return Budget(parse_amount(match["amount"], flag), "day" if match["period"] == "day" else "month", of)
