"""Equal logs have equal digests, others others."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmactors.ledger import log_digest
from llmactors.messages import TokenDelta

LOGS = st.lists(st.builds(TokenDelta, st.integers(-2, 2**40), st.text("ab\u00e4\ud83d", max_size=3)), max_size=5)


@settings(deadline=None)
@given(LOGS, LOGS)
def test_a_digest_tells_logs_apart(one: list[TokenDelta], other: list[TokenDelta]) -> None:
    assert (log_digest(one) == log_digest(tuple(other))) is (one == other)


def test_the_encoding_does_not_change_between_versions() -> None:
    """Nodes of different versions compare digests during a rolling deploy."""
    assert log_digest([TokenDelta(7, " h\u00e9"), TokenDelta(-1, "")]).hex() == "565bd0984c6e9d026e575354eeececdd"
