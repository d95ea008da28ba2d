"""A node with a simulated model, and an official OpenAI client of the node."""

from collections.abc import AsyncIterator

import openai
import pytest

from llmactors.testing.node import LocalNode, local_node, mock_model


@pytest.fixture
async def node() -> AsyncIterator[LocalNode]:
    async with local_node(mock_model("step_ms=2")) as running:
        yield running


@pytest.fixture
async def client(node: LocalNode) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as made:
        yield made
