"""The size of a request: what the queue's bound counts, and what token limits reserve."""

from typing import Any

import attrs
import pytest

from llmactors.ledger import Candidate, RequestSize
from llmactors.ledger.request_size import IMAGE_TOKENS
from llmactors.messages import ChatMessage, GenerateRequest, Image

EMPTY = GenerateRequest("r", "m", "")
IMAGE = Image("data:image/png;base64,AAAA", 0)


def test_size_counts_every_field_of_variable_length() -> None:
    assert RequestSize.of(EMPTY).bytes == 0
    for longer in (
        {"prompt": "é"},
        {"stop": ("é",)},
        {"messages": (ChatMessage("user", "é"),)},
        {"metadata": "é"},
        {"query": "é"},
    ):
        assert RequestSize.of(attrs.evolve(EMPTY, **longer)).bytes == 2


def test_size_counts_the_bytes_of_images() -> None:
    with_image = attrs.evolve(EMPTY, messages=(ChatMessage("user", "", images=(IMAGE,)),))
    assert RequestSize.of(with_image).bytes == len(IMAGE.url)


@pytest.mark.parametrize(
    ("fields", "prompt_tokens"),
    [
        ({}, 0),
        ({"prompt": "x"}, 1),
        ({"prompt": "8 bytes."}, 2),
        ({"prompt": "9 bytes.."}, 3),
        ({"messages": (ChatMessage("user", "four"), ChatMessage("user", "five"))}, 2),
        ({"prompt_ids": (1, 2, 3)}, 3),
        ({"messages": (ChatMessage("user", "four", images=(IMAGE, IMAGE)),)}, 1 + 2 * IMAGE_TOKENS),
        ({"inputs": ("four", "five")}, 2),
        ({"inputs": ("four", "five"), "query": "eight by"}, 2 + 2 * 2),
        ({"metadata": "a metadata is no prompt", "stop": ("nor is a stop",)}, 0),
    ],
)
def test_prompt_tokens_are_estimated(fields: dict[str, Any], prompt_tokens: int) -> None:
    assert RequestSize.of(attrs.evolve(EMPTY, **fields)).prompt_tokens == prompt_tokens


def test_candidate_keeps_the_size_it_is_given() -> None:
    given = RequestSize(bytes=1, prompt_tokens=2)
    assert Candidate(EMPTY, size=given).size is given
    assert Candidate(attrs.evolve(EMPTY, prompt="hi")).size == RequestSize(bytes=2, prompt_tokens=1)
