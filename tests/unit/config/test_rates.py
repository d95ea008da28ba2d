"""Which rates are understood, and that every other text is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.config import parse_rate
from llmactors.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/min", (60, 60.0)),
        ("5/s", (5, 1.0)),
        ("1000/h", (1000, 3600.0)),
        ("100/10s", (100, 10.0)),
        ("1/0.5s", (1, 0.5)),
    ],
)
def test_rate_is_count_and_seconds(text: str, rate: tuple[int, float]) -> None:
    assert parse_rate(text) == rate


@given(st.integers(1, 999_999_999), st.floats(0.001, 1e6).map(lambda number: f"{number:.3f}"))
def test_any_rate_round_trips(requests: int, seconds: str) -> None:
    assert parse_rate(f"{requests}/{seconds}s") == (requests, float(seconds))


@given(st.one_of(st.text(), st.from_regex(r"[0-9.\-+e]{0,12}/[0-9.\-+e]{0,12}(s|min|h|d)?", fullmatch=True)))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    try:
        rate = parse_rate(text)
    except ConfigError as error:
        assert "rate_limit" in error.message  # noqa: PT017 - most texts are wrong, not all
    else:
        assert rate is not None
        assert rate[0] >= 1
        assert 0 < rate[1] < float("inf")


@pytest.mark.parametrize(
    "text", ["0/s", "-1/s", "5/0s", "5/0.000s", "1/" + "9" * 400 + "s", "٣/s", "5/s\n", " 5/s", "5/d", ""]
)
def test_wrong_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rate_limit"):
        parse_rate(text)


def test_empty_text_is_no_rate() -> None:
    assert parse_rate(None) is None
