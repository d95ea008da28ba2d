"""Which running requests may give up their slots."""

from typing import Any

import attrs

from llmactors.backends.base import Batching, Capabilities, Takeover
from llmactors.batcher.giving_way import LAST_TOKENS, offers
from llmactors.batcher.running import Running
from llmactors.ledger import Claim
from llmactors.messages import Constraint, GenerateRequest, TokenDelta

EXACT = Capabilities(slots=4, context_tokens=100, takeover=Takeover.EXACT)


def running(name: str, made: int = 3, *, quarantined: bool = False, since: float = 0.0, **fields: Any) -> Running:
    request = GenerateRequest(name, "m", "hi", **{"max_tokens": 64, "priority": 2} | fields)
    return Running(Claim(request, 1, 1, quarantined, (TokenDelta(1, "x"),) * made), since)


def names(*each: Running, capabilities: Capabilities = EXACT) -> list[str]:
    return [each.request_id for each in offers(each, capabilities, 10.0, 1.0)]


def test_least_urgent_with_fewest_tokens_is_first() -> None:
    found = names(running("a", 5), running("b", 2), running("c", 0, priority=1), running("d", 0, priority=0))
    assert found == ["b", "a", "c"]


def test_last_tokens_and_short_turns_are_kept() -> None:
    assert names(running("a", 64 - LAST_TOKENS), running("b", since=9.5)) == []


def test_answer_that_cannot_be_continued_is_kept() -> None:
    begun, fresh = running("begun"), running("fresh", 0)
    assert names(begun, fresh, capabilities=attrs.evolve(EXACT, takeover=Takeover.RESTART)) == ["fresh"]
    form = Constraint('root ::= "yes"')
    assert names(running("begun", constraint=form), running("fresh", 0, constraint=form)) == ["fresh"]


def test_static_batch_and_suspects_are_kept() -> None:
    assert names(running("a"), capabilities=attrs.evolve(EXACT, batching=Batching.STATIC)) == []
    assert names(running("a"), running("b", quarantined=True)) == []
