"""The scores of a request that ranks documents, from the `/rerank` of an upstream.

The body is that of Jina and Cohere, which the servers of vLLM, SGLang, llama.cpp and llmactors take.
"""

from typing import Any

import msgspec
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.openai.requests.call_trace import CallTrace
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed
from llmactors.messages import TokenDelta, TokenExtra

_MAX_BYTES = 64 * 2**20
"""The longest response. Some servers send the documents back, whatever the request says."""


class _Item(msgspec.Struct):
    index: int
    relevance_score: float


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Answer(msgspec.Struct):
    results: list[_Item]
    usage: _Usage | None = None


async def fetch_scores(upstream: Upstream, model: str, job: Job, trace: CallTrace, *, within_s: float) -> Output:
    """Asks one upstream for the scores behind those that are in the log. Raises `UpstreamFault`."""
    documents = job.request.inputs[len(job.tokens) :]
    if not documents:
        return Output(job.key, (), "stop")
    body: dict[str, Any] = {"model": model, "query": job.request.query, "documents": documents}
    try:
        with trio.fail_after(within_s):
            answer = await upstream.fetch("rerank", body, _MAX_BYTES, trace)
    except trio.TooSlowError as error:
        raise UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream did not answer in time")) from error
    scores, prompt_tokens = _read(answer, len(documents))
    names = [model if model != job.request.model and not job.tokens else "", *[""] * (len(documents) - 1)]
    extras = [TokenExtra(score=score, model=name) for score, name in zip(scores, names, strict=True)]
    return Output(job.key, [TokenDelta(0, "", extra) for extra in extras], "stop", prompt_tokens)


def _read(body: bytes, count: int) -> tuple[list[float], int]:
    """The `count` scores of a response in the order of the documents, and how many tokens the upstream has read; 0
    where the upstream does not say.

    Raises `UpstreamFault` where the scores are not those of all documents, each once.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed("the upstream's scores cannot be read")) from error
    items = sorted(answer.results, key=lambda item: item.index)
    if [item.index for item in items] != list(range(count)):
        text = f"the upstream sent no scores of {count} documents"
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text))
    usage = answer.usage or _Usage()
    return [item.relevance_score for item in items], usage.prompt_tokens or usage.total_tokens
