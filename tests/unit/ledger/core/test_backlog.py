"""What a request counts against the bound on all that waits."""

import attrs

from llmactors.ledger.core.backlog import size_bytes
from llmactors.messages import ChatMessage, GenerateRequest


def test_all_that_a_client_can_make_long_is_counted() -> None:
    empty = GenerateRequest("r", "m", "")
    assert size_bytes(empty) == 0
    for longer in ({"prompt": "é"}, {"stop": ("é",)}, {"messages": (ChatMessage("user", "é"),)}, {"note": "é"}):
        assert size_bytes(attrs.evolve(empty, **longer)) == 2
