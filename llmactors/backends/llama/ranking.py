"""The scores of a request that ranks documents: one call of llama.cpp for each document, as for vectors.

llama.cpp puts the query and a document together as the model's file says. A score is the model's own number, of any
size: only the order of the scores means the same with all models.
"""

from collections.abc import AsyncGenerator

import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.llama.client import LlamaClient
from llmactors.backends.llama.stall import StallWatch
from llmactors.errors import ContextExceeded
from llmactors.messages import TokenDelta, TokenExtra

_BETWEEN = 2
"""The most tokens that llama.cpp puts between the query and a document, and behind the document."""


class ScoreMaker:
    """Makes the scores for one model.

    Args:
        client: Asks llama.cpp.
        stall: Is told of each wait.
        most_tokens: How long the query and a document may be together, in tokens.
    """

    def __init__(self, client: LlamaClient, stall: StallWatch, most_tokens: int) -> None:
        self._client = client
        self._stall = stall
        self._most_tokens = most_tokens

    def __repr__(self) -> str:
        return f"<ScoreMaker of texts of up to {self._most_tokens} tokens>"

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields the scores of the documents behind those that are in the log; the last output has `finish`.

        Raises:
            ContextExceeded: The query and a document together are too long.
            BackendFailed: llama.cpp gave up this one request.
            HttpClientError: The connection broke.
        """
        query, texts = job.request.query or "", [str(each) for each in job.request.inputs]
        asked = len(await self._client.tokenize(query, parse_special=False))
        lengths = [
            asked + len(await self._client.tokenize(text, parse_special=False, add_special=False)) for text in texts
        ]
        if max(lengths) + _BETWEEN > self._most_tokens:
            raise ContextExceeded(
                f"`documents`: the query and one document have {max(lengths)} tokens, and this model takes at most "
                f"{self._most_tokens - _BETWEEN} tokens; split the document"
            )
        for place in range(len(job.tokens), len(texts)):
            with self._stall.wait(trio.current_time, prompt_tokens=lengths[place]):
                score = await self._client.rank(query, texts[place])
            ends = place == len(texts) - 1
            delta = TokenDelta(0, "", TokenExtra(score=score))
            yield Output(job.key, (delta,), "stop" if ends else None, sum(lengths) if ends else 0)
        if len(job.tokens) >= len(texts):
            yield Output(job.key, (), "stop", sum(lengths))
