"""The headers that OpenAI's clients read, rounded so that no client retries too early."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter import LimitDecision, Limits, Standing, charges_for, limit_headers
from llmactors.limiter.headers import format_duration, retry_headers

LIMITS = Limits(requests_per_minute=60, tokens_per_minute=1000, tokens_per_day=5000, concurrent=4)


POLICIES = (
    '"requests";q=60;w=60, "tokens";q=1000;w=60;llm-unit="tokens", '
    '"tokens-per-day";q=5000;w=86400;llm-unit="tokens", "concurrent";q=4;qu="concurrent-requests"'
)


def standings(*uses: LimitDecision) -> list[Standing]:
    charges = charges_for(LIMITS, "t", tokens=100)
    return [Standing(charge, decision) for charge, decision in zip(charges, uses, strict=True)]


ADMITTED = standings(
    LimitDecision(True, 60, 59, 1.0),
    LimitDecision(True, 1000, 900, 6.0),
    LimitDecision(True, 5000, 600, 0.2),
    LimitDecision(True, 4, 3, 0.0),
)


def test_headers_show_what_is_left() -> None:
    assert limit_headers(ADMITTED) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "5000"),
        ("x-ratelimit-remaining-tokens", "600"),
        ("x-ratelimit-reset-tokens", "200ms"),
        ("ratelimit-policy", POLICIES),
        ("ratelimit", '"requests";r=59;t=1, "tokens";r=900;t=6, "tokens-per-day";r=600;t=1, "concurrent";r=3'),
    ]


def test_token_headers_show_the_limit_that_refused() -> None:
    refused = attrs.evolve(ADMITTED[1], decision=LimitDecision(False, 1000, 900, 6.0, 12.0))
    headers = dict(limit_headers([ADMITTED[0], refused, *ADMITTED[2:]]))
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert '"tokens";r=900;t=12' in headers["ratelimit"]


def test_caller_without_limits_gets_no_headers() -> None:
    assert limit_headers([]) == []


@pytest.mark.parametrize(
    ("retry_after_s", "seconds", "milliseconds"), [(0.001, "1", "1"), (1.0, "1", "1000"), (1.001, "2", "1001")]
)
def test_headers_of_a_refusal_say_when_to_retry(retry_after_s: float, seconds: str, milliseconds: str) -> None:
    assert retry_headers(retry_after_s) == [("retry-after", seconds), ("retry-after-ms", milliseconds)]


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0.0, "0s"),
        (0.012, "12ms"),
        (0.0120001, "12ms"),
        (0.01201, "13ms"),
        (0.007, "7ms"),
        (0.9999, "1s"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (60.0, "1m0s"),
        (360.0, "6m0s"),
        (3600.0, "1h0m0s"),
        (86_461.25, "24h1m1.25s"),
    ],
)
def test_durations_have_the_format_of_go(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text


@given(st.floats(0, 1e6))
def test_duration_is_at_most_a_microsecond_too_short(duration_s: float) -> None:
    text, total_s = format_duration(duration_s), 0.0
    if text.endswith("ms"):
        total_s = int(text[:-2]) / 1000
    else:
        for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
            number, found, rest = text.partition(unit)
            if found:
                total_s, text = total_s + float(number) * seconds, rest
    assert duration_s - 1e-6 <= total_s <= duration_s + 0.001 + 1e-6
