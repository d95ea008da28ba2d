"""The request to an upstream for one request of this node. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from llmactors.messages import DEFAULTABLE, GenerateRequest
from llmactors.tool_calls.history import chat_message

_MAX_STOPS = 4
"""OpenAI's limit. The backend looks for all stop strings by itself too."""
_AS_THEY_ARE = ("frequency_penalty", "presence_penalty", "ignore_eos")
"""Fields that the upstream gets under the same name, where they are not 0 or false."""
_SHARED = {"top_k": "top_k", "min_p": "min_p"}
_ENGINES: Mapping[str, Mapping[str, str]] = {
    "openai": {},
    "vllm": {**_SHARED, "repeat_penalty": "repetition_penalty", "min_tokens": "min_tokens"},
    "sglang": {**_SHARED, "repeat_penalty": "repetition_penalty", "min_tokens": "min_tokens"},
    "llamacpp": {**_SHARED, "repeat_penalty": "repeat_penalty"},
}
"""The fields beside OpenAI's that each server knows, with the server's names of them."""


def rules_of(engine: str) -> frozenset[str]:
    """The fields of a request that upstreams with this server honour beside those of OpenAI's API."""
    return frozenset(_ENGINES[engine])


def is_raw(request: GenerateRequest) -> bool:
    """Whether the model gets the prompt as it is, without a chat template."""
    return request.raw and not request.messages


def body_of(
    request: GenerateRequest,
    model: str,
    text: str,
    count: int,
    *,
    tokens_field: str,
    engine: str = "openai",
    sends_ids: bool = False,
) -> tuple[str, dict[str, Any]]:
    """The route and the body of a request to the routes of OpenAI's API.

    Args:
        request: The request.
        model: The name of the model at the upstream.
        text: The answer so far, which the upstream continues. In a chat it is the beginning of the assistant's message.
        count: How many tokens the answer has so far.
        tokens_field: The name of the limit on tokens on the chat route.
        engine: The server of the upstream, as the setting `engine` names it.
        sends_ids: Whether the upstream is to send the ids of all tokens. It is told no stop strings then.
    """
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= sampling_of(request, count, engine)
    if sends_ids:
        body["return_token_ids"] = True
    elif request.stop:
        body["stop"] = list(request.stop[:_MAX_STOPS])
    left = request.max_tokens - count
    if is_raw(request):
        prompt = list(request.prompt_ids) or request.prompt + text
        if request.top_logprobs is not None:
            body["logprobs"] = request.top_logprobs
        return "completions", body | {"prompt": prompt, "max_tokens": left}
    chat = chat_of(request)
    if text:
        chat["messages"].append({"role": "assistant", "content": text})
        chat |= PREFILL
    return "chat/completions", body | chat | _chat_rules_of(request) | {tokens_field: left}


PREFILL = {"continue_final_message": True, "add_generation_prompt": False}
"""The fields that have a chat's last message continued, as vLLM, SGLang and llama.cpp know them."""


def chat_of(request: GenerateRequest) -> dict[str, Any]:
    """The conversation and the tools of a request, as chat templates read them."""
    messages = [chat_message(message) for message in request.messages]
    chat: dict[str, Any] = {"messages": messages or [{"role": "user", "content": request.prompt}]}
    if request.tools is not None:
        chat["tools"] = msgspec.Raw(request.tools.definitions.encode())
    return chat


def _chat_rules_of(request: GenerateRequest) -> dict[str, Any]:
    """What the chat route has to keep to, beside the rules for drawing tokens."""
    found: dict[str, Any] = {}
    if request.top_logprobs is not None:
        found |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.reasoning_effort:
        found["reasoning_effort"] = request.reasoning_effort
    if request.response_format:
        found["response_format"] = msgspec.Raw(request.response_format.encode())
    if request.tools is not None:
        if request.tools.choice:
            found["tool_choice"] = msgspec.Raw(request.tools.choice.encode())
        if not request.tools.parallel:
            found["parallel_tool_calls"] = False
    return found


def sampling_of(request: GenerateRequest, count: int, engine: str) -> dict[str, Any]:
    """The fields for drawing the tokens after the first `count` tokens of the answer."""
    found: dict[str, Any] = {name: getattr(request, name) for name in DEFAULTABLE if name not in request.defaulted}
    if request.seed is not None:
        found["seed"] = request.seed
    for field in _AS_THEY_ARE:
        if value := getattr(request, field):
            found[field] = value
    if request.logit_bias:
        found["logit_bias"] = {str(token): bias for token, bias in request.logit_bias}
    demands = request.demands
    found |= {name: getattr(request, field) for field, name in _ENGINES[engine].items() if field in demands}
    if "min_tokens" in found:
        found["min_tokens"] = max(0, request.min_tokens - count)
    return found
