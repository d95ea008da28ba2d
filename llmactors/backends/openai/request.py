"""The request to an upstream for one request of this node. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from llmactors.errors import InternalError
from llmactors.messages import DEFAULTABLE, GenerateRequest
from llmactors.tool_calls.history import chat_message

_MAX_STOPS = 4
"""OpenAI's limit. The backend looks for all stop strings by itself too."""
_AS_THEY_ARE = ("frequency_penalty", "presence_penalty", "ignore_eos")
"""Fields that the upstream gets under the same name, where they are not 0 or false."""
_SHARED = {"top_k": "top_k", "min_p": "min_p"}
_ENGINES: Mapping[str, Mapping[str, str]] = {
    "": {},
    "vllm": {**_SHARED, "repeat_penalty": "repetition_penalty", "min_tokens": "min_tokens"},
    "sglang": {**_SHARED, "repeat_penalty": "repetition_penalty", "min_tokens": "min_tokens"},
    "llama.cpp": {**_SHARED, "repeat_penalty": "repeat_penalty"},
}
"""The fields beside OpenAI's that each server knows, with the server's names of them."""


def rules_of(engine: str) -> frozenset[str]:
    """The fields of a request that upstreams with this server honour beside those of OpenAI's API."""
    return frozenset(_ENGINES[engine])


def body_of(
    request: GenerateRequest, model: str, text: str, count: int, *, tokens_field: str, engine: str = ""
) -> tuple[str, dict[str, Any]]:
    """The route and the body of a request to an upstream.

    Args:
        request: The request.
        model: The name of the model at the upstream.
        text: The answer so far.
        count: How many tokens the answer has so far.
        tokens_field: The name of the limit on tokens on the chat route.
        engine: The server of the upstream; empty for an unknown one.

    Raises:
        InternalError: A chat was begun already: only its upstream could continue the answer.
    """
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}, **_sampling_of(request)}
    demands = request.demands
    body |= {name: getattr(request, field) for field, name in _ENGINES[engine].items() if field in demands}
    if "min_tokens" in body:
        body["min_tokens"] = max(0, request.min_tokens - count)
    if request.stop:
        body["stop"] = list(request.stop[:_MAX_STOPS])
    left = request.max_tokens - count
    messages = [chat_message(message) for message in request.messages]
    if request.raw and not messages:
        prompt = list(request.prompt_ids) or request.prompt + text
        if request.top_logprobs is not None:
            body["logprobs"] = request.top_logprobs
        return "completions", body | {"prompt": prompt, "max_tokens": left}
    if count:
        raise InternalError("a chat cannot be continued from its text, but this one was to be")
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.reasoning_effort:
        body["reasoning_effort"] = request.reasoning_effort
    body |= _tools_of(request)
    chat = messages or [{"role": "user", "content": request.prompt}]
    return "chat/completions", body | {"messages": chat, tokens_field: left}


def _tools_of(request: GenerateRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if request.response_format:
        found["response_format"] = msgspec.Raw(request.response_format.encode())
    if request.tools is not None:
        found["tools"] = msgspec.Raw(request.tools.definitions.encode())
        if request.tools.choice:
            found["tool_choice"] = msgspec.Raw(request.tools.choice.encode())
        if not request.tools.parallel:
            found["parallel_tool_calls"] = False
    return found


def _sampling_of(request: GenerateRequest) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(request, name) for name in DEFAULTABLE if name not in request.defaulted}
    if request.seed is not None:
        found["seed"] = request.seed
    for field in _AS_THEY_ARE:
        if value := getattr(request, field):
            found[field] = value
    if request.logit_bias:
        found["logit_bias"] = {str(token): bias for token, bias in request.logit_bias}
    return found
