"""Any body is accepted or refused: no JSON causes an internal error."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.errors import InvalidRequest
from llmactors.gateway.openai.embedding_schema import EmbeddingsBody, read_embeddings
from llmactors.gateway.openai.rerank_schema import RerankBody, read_rerank
from llmactors.gateway.openai.responses.schema import ResponseBody, read_query, read_response
from llmactors.gateway.openai.schema import ChatBody, CompletionBody, read_chat, read_completion

KINDS = (ChatBody, CompletionBody, ResponseBody, EmbeddingsBody, RerankBody)
NAMES = sorted({field.name for kind in KINDS for field in attrs.fields(kind)})
KEYS = (
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "name",
    "schema",
    "format",
    "verbosity",
    "include_usage",
    "json",
    "json_schema",
    "mode",
    "parameters",
    "tools",
    "allowed_tools",
    "",
)
WORDS = (
    "user",
    "assistant",
    "message",
    "text",
    "input_text",
    "m",
    "",
    "function",
    "allowed_tools",
    "json_schema",
    "auto",
)

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=3)
JSON: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
MESSAGES = st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), max_size=2)
BODIES = st.builds(
    lambda usual, other: {"model": "m", **usual, **other},
    st.fixed_dictionaries({"messages": MESSAGES, "input": MESSAGES, "prompt": JSON}),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2),
)
READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "chat": lambda fields: read_chat(fields).choices(None),
    "completion": lambda fields: read_completion(fields).choices(None),
    "embeddings": lambda fields: read_embeddings(fields).requests(None),
    "rerank": lambda fields: read_rerank({"query": "q", "documents": fields["input"], **fields}).requests(None),
    "response": lambda fields: read_response(fields).choice(None, background_s=1, response_ttl_s=1),
}


@pytest.mark.parametrize("kind", sorted(READERS))
@given(fields=BODIES)
def test_any_body_is_accepted_or_refused(kind: str, fields: dict[str, Any]) -> None:
    try:
        READERS[kind](fields)
    except InvalidRequest as refused:
        assert refused.message  # noqa: PT017 - it may be read as well


@given(
    query=st.text(st.characters(max_codepoint=255)) | st.from_regex(r"(stream|starting_after|include)=\w*(&\w*=\w*)?")
)
def test_any_query_is_accepted_or_refused(query: str) -> None:
    try:
        read_query(query)
    except InvalidRequest as refused:
        assert refused.message  # noqa: PT017 - it may be read as well
