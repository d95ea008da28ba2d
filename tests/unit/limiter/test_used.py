"""The tokens and the money that a request has used at its end."""

import pytest

from llmactors.limiter import Used
from llmactors.messages import Failed, Finished, Terminal, Usage
from llmactors.prices import Price


@pytest.mark.parametrize(
    ("end", "started", "logged", "used"),
    [
        (Finished("stop", Usage(7, 20)), True, 20, 27),
        (Finished("cancelled", Usage(0, 5)), True, 5, 15),  # the number of prompt tokens is not known
        (Finished("cancelled", Usage(0, 0)), True, 0, 10),
        (Finished("cancelled", Usage(0, 0)), False, 0, 0),  # no worker has claimed the request
        (Failed("DEADLINE_EXCEEDED", "", Usage(0, 3)), True, 3, 13),
        (Failed("POISONED", ""), True, 4, 14),
        (Failed("INVALID_REQUEST", "the prompt is too long"), True, 0, 0),
    ],
)
def test_used_tokens_are_known_or_estimated_too_high(end: Terminal, started: bool, logged: int, used: int) -> None:
    assert Used.of(end, started=started, logged=logged, prompt_estimate=10, price=None).tokens == used


def test_cached_tokens_have_a_price_of_their_own() -> None:
    price = Price.per_million(3.0, 15.0, 0.3)
    end = Finished("stop", Usage(1000, 20, cached_tokens=600))
    used = Used.of(end, started=True, logged=20, prompt_estimate=10, price=price)
    assert (used.prompt_tokens, used.completion_tokens, used.cached_tokens) == (1000, 20, 600)
    assert used.cost_nano == 400 * 3000 + 600 * 300 + 20 * 15_000
    assert used.cost_nano <= price.most_nano(1000, 20)


def test_no_more_of_the_prompt_is_cached_than_it_has() -> None:
    end = Failed("INTERRUPTED", "gone", Usage(0, 5, cached_tokens=9))
    assert Used.of(end, started=True, logged=5, prompt_estimate=10, price=None) == Used(10, 5, 0)
