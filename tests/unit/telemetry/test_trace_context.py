"""The caller's span is read from valid headers only, and the span of a claim has the same id on every node."""

import pytest

from llmactors.telemetry.tracing.context import MAX_STATE_CHARS, CallerSpan, caller_span, claim_span_id

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_valid_header_names_the_callers_span() -> None:
    found = caller_span(VALID, "vendor=1,other=2")
    assert found == CallerSpan(int(TRACE, 16), int(SPAN, 16), 1, "vendor=1,other=2")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        VALID.upper(),
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"{VALID}-more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        "0" * 100_000,
    ],
)
def test_other_headers_name_no_span(header: str | None) -> None:
    assert caller_span(header, "vendor=1") is None


def test_later_version_may_say_more() -> None:
    assert caller_span(f"01-{TRACE}-{SPAN}-00-more", None) == CallerSpan(int(TRACE, 16), int(SPAN, 16), 0)


@pytest.mark.parametrize("state", ["x" * (MAX_STATE_CHARS + 1), "vendor=\x00", "vendor=ü"])
def test_state_that_is_not_valid_is_left_out(state: str) -> None:
    found = caller_span(VALID, state)
    assert found is not None
    assert found.state == ""


def test_claim_has_a_span_id_of_its_own() -> None:
    ids = {claim_span_id(trace, request, epoch) for trace in (1, 2) for request in "ab" for epoch in (1, 2)}
    assert len(ids) == 8
    assert claim_span_id(1, "a", 1) in ids
    assert all(0 < each < 1 << 64 for each in ids)
