"""What tokens cost, and amounts of money as text."""

import pytest

from llmactors.errors import ConfigError
from llmactors.prices import Price, format_amount, parse_amount


def test_cost_is_rounded_up_to_a_billionth() -> None:
    price = Price.per_million(0.0375, 0.15)
    assert price == Price(37_500, 150_000, 37_500)
    assert price.cost_nano(1, 0) == 38
    assert price.cost_nano(1_000_000, 2_000_000) == 337_500_000


@pytest.mark.parametrize(("text", "nano"), [("10", 10**10), ("0.000000001", 1), ("12.50", 12_500_000_000)])
def test_amounts_are_read_and_shown(text: str, nano: int) -> None:
    assert parse_amount(text, "budget") == nano
    assert parse_amount(format_amount(nano), "budget") == nano


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "1000001", "0.0000000001", "ten", "1,5"])
def test_wrong_amount_names_its_flag(text: str) -> None:
    with pytest.raises(ConfigError, match="`budget` must be an amount above 0"):
        parse_amount(text, "budget")
