"""Headers as OpenAI's clients read them, rounded so that nobody comes too early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.limiter import Decision, rate_headers
from llmactors.limiter.headers import format_duration


def test_an_admitted_request_learns_what_is_left() -> None:
    decision = Decision(admitted=True, limit=60, remaining=59, reset_s=1.0)
    assert rate_headers(decision) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    ]


@pytest.mark.parametrize(
    ("retry_after_s", "seconds", "milliseconds"), [(0.001, "1", "1"), (1.0, "1", "1000"), (1.001, "2", "1001")]
)
def test_a_refused_request_learns_when_to_come_again(retry_after_s: float, seconds: str, milliseconds: str) -> None:
    decision = Decision(admitted=False, limit=60, remaining=0, reset_s=60.0, retry_after_s=retry_after_s)
    assert rate_headers(decision)[3:] == [("retry-after", seconds), ("retry-after-ms", milliseconds)]


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
def test_durations_are_written_as_go_does(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text


@given(st.floats(0, 1e6))
def test_a_duration_is_never_written_too_short_by_more_than_a_microsecond(duration_s: float) -> None:
    text, total_s = format_duration(duration_s), 0.0
    if text.endswith("ms"):
        total_s = int(text[:-2]) / 1000
    else:
        for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
            number, found, rest = text.partition(unit)
            if found:
                total_s, text = total_s + float(number) * seconds, rest
    assert duration_s - 1e-6 <= total_s <= duration_s + 0.001 + 1e-6
