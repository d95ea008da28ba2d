"""`/v1/rerank`: how well each of some documents answers a query, the best document first.

A call becomes requests of the ledger, as a call for embeddings does, but of 16 documents or more each. The log of a
request has one token for each document, which carries the document's score.
"""

from collections.abc import Sequence
from typing import Any

from llmactors.access.authentication import Caller
from llmactors.errors import BackendFailed
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.body import deadline_of
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.render import add_up
from llmactors.gateway.openai.rerank_schema import read_rerank
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import Exchange
from llmactors.ledger import LogSlice
from llmactors.messages import Finished


async def rerank(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/rerank`."""
    body = read_rerank(await service.bodies.read(exchange))
    texts = body.texts
    requests = body.requests(deadline_of(exchange.header(b"x-request-deadline")))
    async with AdmittedChoices(service) as admitted:
        await admitted.admit(exchange, caller, requests)
        first = admitted.admissions[0].request
        logs = await admitted.wait_logs(exchange, counts_tokens=False)
        if logs is None:
            return
        scores = _scores(logs, [request.max_tokens for request in requests])
        admitted.answered = True
        prompt_tokens = add_up([log.end.usage for log in logs if isinstance(log.end, Finished)]).prompt_tokens
        answer = {
            "id": f"rerank-{first.id.removeprefix('req_')}",
            "object": "list",
            "model": answering_model(first, logs[0].deltas),
            "results": ranked(scores, texts if body.return_documents else None, body.top_n),
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        }
        await exchange.answer(200, answer, admitted.headers)


def ranked(scores: Sequence[float], texts: Sequence[str] | None, most: int | None) -> list[dict[str, Any]]:
    """The `most` best documents, the best one first. Documents of one score keep their order.

    Args:
        scores: The score of each document.
        texts: The documents, where the client wants them back.
        most: The number of documents that the client wants; None for all.
    """
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[:most]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if texts is not None:
        for result in results:
            result["document"] = {"text": texts[result["index"]]}
    return results


def _scores(logs: Sequence[LogSlice], counts: Sequence[int]) -> list[float]:
    """The scores in the order of the documents. Raises `BackendFailed` where a backend made fewer or more."""
    scores: list[float] = []
    for log, count in zip(logs, counts, strict=True):
        found = [delta.extra.score for delta in log.deltas if delta.extra is not None and delta.extra.score is not None]
        if len(found) != count:
            raise BackendFailed(f"the model made {len(found)} scores of {count} documents")
        scores += found
    return scores
