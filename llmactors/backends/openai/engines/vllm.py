"""vLLM: https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html.

The routes of OpenAI's API send the ids of the prompt with the first chunk and the ids of the answer with each chunk if
a body has `return_token_ids`. The completions route takes a prompt as ids, and a grammar in `structured_outputs`, which
XGrammar follows.
"""

from collections.abc import Sequence

import msgspec

from llmactors.backends.openai.engines.engine import Body, Calls, Reader, Tokens, decode
from llmactors.backends.openai.engines.rest import rest_of_grammar
from llmactors.backends.openai.requests.body import chat_of, is_raw, sampling_of
from llmactors.backends.openai.responses.chunks import ChunkReader
from llmactors.messages import NO_THINKING, Constraint, GenerateRequest


class _Text(msgspec.Struct):
    prompt: str


class Vllm:
    """A `TokenServer`."""

    sends_ids = True

    async def splits_reasoning(self, calls: Calls) -> bool:  # noqa: ARG002
        """False: where the tags of the reasoning are not declared, requests go to the chat route."""
        return False

    async def tokenize(self, calls: Calls, model: str, text: str) -> tuple[int, ...]:
        """The ids of a text. Raises `UpstreamFault`."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return decode(await calls.fetch("/tokenize", body), Tokens).tokens

    async def text_of(self, calls: Calls, model: str, ids: Sequence[int]) -> str:
        """The text of ids. Raises `UpstreamFault`."""
        return decode(await calls.fetch("/detokenize", {"model": model, "tokens": ids}), _Text).prompt

    async def prompt_ids(self, calls: Calls, model: str, request: GenerateRequest) -> tuple[int, ...]:
        """The ids of the prompt of a request. Raises `UpstreamFault`."""
        if request.prompt_ids:
            return request.prompt_ids
        if is_raw(request):
            body: Body = {"model": model, "prompt": request.prompt, "add_special_tokens": True}
        else:
            body = {"model": model, "add_generation_prompt": True, **chat_of(request)}
            if request.reasoning_effort:
                thinks = request.reasoning_effort not in NO_THINKING
                effort = {"reasoning_effort": request.reasoning_effort, "enable_thinking": thinks}
                body["chat_template_kwargs"] = effort
        return decode(await calls.fetch("/tokenize", body), Tokens).tokens

    def generation(
        self, request: GenerateRequest, model: str, ids: Sequence[int], count: int, rest: Body
    ) -> tuple[str, Body]:
        """The route and the body that go on behind ids."""
        body = {"model": model, "prompt": ids, "max_tokens": request.max_tokens - count, **rest}
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
        if request.top_logprobs is not None:
            body["logprobs"] = request.top_logprobs
        return "completions", body | sampling_of(request, count, "vllm")

    def overshot(self, said: str) -> bool:  # noqa: ARG002
        """Whether the server gave an answer up at its trigger."""
        return False

    def reader(self) -> Reader:
        """The reader of one stream."""
        return ChunkReader(with_logprobs=True, with_ids=True)

    def constraint(self, constraint: Constraint, text: str, *, begins_now: bool) -> tuple[Body, bool]:  # noqa: ARG002 - no grammar has a trigger here
        """The fields of what is left of a constraint. Raises `Interrupted`."""
        grammar, is_complete = rest_of_grammar(constraint, text)
        return ({"structured_outputs": {"grammar": grammar}} if grammar else {}), is_complete
