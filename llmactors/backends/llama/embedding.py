"""The vectors of a request for embeddings: one call of llama.cpp for each input.

The child batches the inputs of all requests that run at once, as it batches answers. A request has one slot, so it asks
for one vector at a time.
"""

from collections.abc import AsyncGenerator

import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.llama.client import LlamaClient
from llmactors.backends.llama.prompt import PromptReader
from llmactors.backends.llama.stall import StallWatch
from llmactors.errors import ContextExceeded
from llmactors.messages import TokenDelta, TokenExtra


class VectorMaker:
    """Makes the vectors for one model.

    Args:
        client: Asks llama.cpp.
        reader: Makes token ids of texts.
        stall: Is told of each wait.
        most_tokens: The length of the longest input that llama.cpp takes.
    """

    def __init__(self, client: LlamaClient, reader: PromptReader, stall: StallWatch, most_tokens: int) -> None:
        self._client = client
        self._reader = reader
        self._stall = stall
        self._most_tokens = most_tokens

    def __repr__(self) -> str:
        return f"<VectorMaker of inputs of up to {self._most_tokens} tokens>"

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields the vectors of the inputs behind those that are in the log; the last output has `finish`.

        Raises:
            ContextExceeded: An input is too long.
            InvalidRequest: The model has no token with one of the ids.
            BackendFailed: llama.cpp gave up this one request.
            HttpClientError: The connection broke.
        """
        inputs = [await self._reader.input_ids(each) for each in job.request.inputs]
        longest = max(map(len, inputs))
        if longest > self._most_tokens:
            raise ContextExceeded(
                f"`input`: one input has {longest} tokens, and this model takes at most {self._most_tokens} tokens; "
                "split the input"
            )
        left = inputs[len(job.tokens) :]
        for place, ids in enumerate(left, start=1):
            with self._stall.wait(trio.current_time, prompt_tokens=len(ids)):
                vector = await self._client.embed(ids)
            delta = TokenDelta(0, "", TokenExtra(embedding=vector))
            if place < len(left):
                yield Output(job.key, (delta,))
            else:
                yield Output(job.key, (delta,), "stop", sum(map(len, inputs)))
        if not left:
            yield Output(job.key, (), "stop", sum(map(len, inputs)))
