"""The size of a request: what the queue's bound counts, and what token limits reserve."""

from typing import Any

import attrs
import pytest

from llmactors.ledger import Candidate, RequestSize
from llmactors.messages import ChatMessage, GenerateRequest

EMPTY = GenerateRequest("r", "m", "")


def test_size_counts_every_field_of_variable_length() -> None:
    assert RequestSize.of(EMPTY).bytes == 0
    for longer in ({"prompt": "é"}, {"stop": ("é",)}, {"messages": (ChatMessage("user", "é"),)}, {"metadata": "é"}):
        assert RequestSize.of(attrs.evolve(EMPTY, **longer)).bytes == 2


@pytest.mark.parametrize(
    ("fields", "prompt_tokens"),
    [
        ({}, 0),
        ({"prompt": "x"}, 1),
        ({"prompt": "8 bytes."}, 2),
        ({"prompt": "9 bytes.."}, 3),
        ({"messages": (ChatMessage("user", "four"), ChatMessage("user", "five"))}, 2),
        ({"prompt_ids": (1, 2, 3)}, 3),
        ({"metadata": "a metadata is no prompt", "stop": ("nor is a stop",)}, 0),
    ],
)
def test_prompt_tokens_are_estimated(fields: dict[str, Any], prompt_tokens: int) -> None:
    assert RequestSize.of(attrs.evolve(EMPTY, **fields)).prompt_tokens == prompt_tokens


def test_candidate_keeps_the_size_it_is_given() -> None:
    given = RequestSize(bytes=1, prompt_tokens=2)
    assert Candidate(EMPTY, size=given).size is given
    assert Candidate(attrs.evolve(EMPTY, prompt="hi")).size == RequestSize(bytes=2, prompt_tokens=1)
