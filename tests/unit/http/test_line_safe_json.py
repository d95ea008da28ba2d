"""JSON for lines: every separator at which a reader may split a line is escaped."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmactors.gateway.native.events import SseRenderer
from llmactors.gateway.openai.render import AnswerForm, ChunkRenderer
from llmactors.http.line_safe_json import encode
from llmactors.ledger import LogSlice
from llmactors.messages import GenerateRequest, TokenDelta

SEPARATORS = "\u2028\u2029\u0085\v\f\x1c\x1d\x1e\n\r"


@given(st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(SEPARATORS))))
@example(text=SEPARATORS)
def test_encoded_text_is_one_line_and_reads_back(text: str) -> None:
    data = encode({"text": text})
    assert len(data.decode().splitlines()) == 1
    assert json.loads(data) == {"text": text}


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists))
def test_other_values_are_encoded_as_before(value: Any) -> None:
    assert msgspec.json.decode(encode(value)) == msgspec.json.decode(msgspec.json.encode(value))


@pytest.mark.parametrize("separator", SEPARATORS)
def test_tokens_of_a_stream_are_on_one_line(separator: str) -> None:
    part = LogSlice(1, (TokenDelta(1, f"a{separator}b"), TokenDelta(2, separator)))
    request = GenerateRequest(id="req_1", model="m", prompt="hi")
    for renderer in (SseRenderer("req_1"), ChunkRenderer(AnswerForm(chat=True), "id", request)):
        for line in renderer.render(part).decode().split("\n"):
            assert len(line.splitlines()) <= 1
