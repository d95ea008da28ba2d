"""A real llama.cpp with a tiny model that ranks documents: its scores, its refusals, and a takeover."""

from pathlib import Path
from typing import Any

import pytest

from llmactors.backends.base import Job
from llmactors.backends.build import ServedModel
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.errors import ContextExceeded
from llmactors.messages import GenerateRequest, TokenDelta
from llmactors.testing.node import LocalNode, local_node
from tests.support.tiny_models import write_reranker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SETTINGS = LlamaSettings(slots=2, context_tokens=128, threads=1)
DOCUMENTS = ("a b c", "d e f g", "x", "q r s t u")
REQUEST = GenerateRequest("r", "ranks", "", max_tokens=4, inputs=DOCUMENTS, query="a b")


async def scores(backend: LlamaBackend, logged: tuple[TokenDelta, ...] = ()) -> tuple[list[float | None], int]:
    deltas, prompt_tokens = list(logged), 0
    async for output in backend.generate(Job(("r", 1), REQUEST, logged)):
        deltas += output.deltas
        prompt_tokens = output.prompt_tokens
    assert output.finish == "stop"
    return [delta.extra.score if delta.extra else None for delta in deltas], prompt_tokens


async def check_takeovers(backend: LlamaBackend) -> None:
    outputs = [output async for output in backend.generate(Job(("r", 1), REQUEST))]
    logged = tuple(delta for output in outputs for delta in output.deltas)
    whole = await scores(backend)
    assert None not in whole[0]
    assert len(set(whole[0])) == len(DOCUMENTS)
    for count in range(len(DOCUMENTS) + 1):
        found, prompt_tokens = await scores(backend, logged[:count])
        assert found == pytest.approx(whole[0], rel=1e-3)
        assert prompt_tokens == whole[1]
    long = GenerateRequest("r", "ranks", "", inputs=("a",), query="a " * 130)
    with pytest.raises(ContextExceeded, match="split the document"):
        [output async for output in backend.generate(Job(("r", 2), long))]


async def refusal(node: LocalNode, path: str, **body: Any) -> str:
    response = await node.client.post(path, json={"model": "ranks"} | body)
    assert response.status_code == 400
    return str(response.json()["error"]["message"])


async def test_model_that_ranks(tmp_path: Path) -> None:
    """One child process serves all cases."""
    write_reranker(tmp_path / "ranks.gguf")
    made: list[LlamaBackend] = []

    def make() -> LlamaBackend:
        made.append(LlamaBackend(tmp_path / "ranks.gguf", SETTINGS))
        return made[-1]

    async with local_node(ServedModel("ranks", make)) as node:
        await node.wait_ready()
        found, _ = await scores(made[0])
        body = {"model": "ranks", "query": "a b", "documents": DOCUMENTS}
        results = (await node.client.post("/v1/rerank", json=body)).json()["results"]
        assert [item["index"] for item in results] == sorted(range(4), key=lambda index: -(found[index] or 0))
        await check_takeovers(made[0])
        assert "makes no answers" in await refusal(node, "/v1/completions", prompt="a")
        assert "makes no answers" in await refusal(node, "/v1/generate", prompt="a")
        assert "makes no embeddings" in await refusal(node, "/v1/embeddings", input="a")
