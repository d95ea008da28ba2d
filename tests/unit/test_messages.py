"""The messages that all parts share."""

import attrs

from llmactors.messages import GenerateRequest
from llmactors.prices import Price


def test_payer_changes_nothing_else_of_a_request() -> None:
    request = GenerateRequest("r", "m", "text", max_tokens=3, stop=("x",), key_id="old")
    price = Price(1, 2, 3)
    assert request.paid_by("new", price) == attrs.evolve(request, key_id="new", price=price)
    assert request.paid_by("old", None) is request
