"""What tokens cost: the prices of models, and amounts of money as whole numbers. Pure.

An amount is a whole number of billionths of the currency's unit, and its name ends in `_nano`, so that sums are exact.
The currency has no name here: prices, budgets and costs are in the same one.
"""

import re
from decimal import Decimal

import msgspec

from llmactors.errors import ConfigError

NANO = 1_000_000_000
"""The billionths of one unit of the currency."""
MOST_NANO = 1_000_000 * NANO
"""The highest budget: numbers in Lua hold no integers above 2^53 exactly."""
_MICRO = 1_000_000
_AMOUNT = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")


class Price(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The price of a model's tokens, in millionths of the currency's unit for a million tokens."""

    prompt: int
    completion: int
    cached: int
    """The price of the tokens of a prompt that the backend read from its cache."""

    @classmethod
    def per_million(cls, prompt: float, completion: float, cached: float | None = None) -> "Price":
        """A price in units of the currency for a million tokens. By default cached tokens cost what others do."""
        return cls(_micro(prompt), _micro(completion), _micro(prompt if cached is None else cached))

    def cost_nano(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> int:
        """What one request costs, rounded up to a whole billionth."""
        fresh = prompt_tokens - cached_tokens
        total = fresh * self.prompt + completion_tokens * self.completion + cached_tokens * self.cached
        return -(-total // 1000)

    def most_nano(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that a request of so many tokens can cost, however many of them come from a cache."""
        return -(-(prompt_tokens * max(self.prompt, self.cached) + completion_tokens * self.completion) // 1000)


def parse_amount(text: str, name: str) -> int:
    """The amount in `text`, as in `12.50`, in billionths of a unit. Raises `ConfigError` that names `name`."""
    if not _AMOUNT.fullmatch(text) or not 0 < (amount_nano := int(Decimal(text) * NANO)) <= MOST_NANO:
        raise ConfigError(f"`{name}` must be an amount above 0 and at most 1000000, as in 12.50, not {text!r}")
    return amount_nano


def format_amount(amount_nano: int) -> str:
    """The amount in units of the currency: at least two decimals, at most nine, without zeros at the end."""
    whole, rest = divmod(amount_nano, NANO)
    return f"{whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


def _micro(units: float) -> int:
    return round(units * _MICRO)
