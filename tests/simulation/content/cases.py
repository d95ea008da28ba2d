"""What is asked: schemas, tools, log probabilities, stop strings, several choices, vectors; in each API. Pure."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from llmactors.testing.schemas import NEWEST_SCHEMAS, SCHEMAS

Api = Literal["native", "chat", "completions", "responses", "messages", "embeddings"]
Body = dict[str, Any]

PATHS: Mapping[Api, str] = {
    "native": "/v1/generate",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
_TOKENS = 20
"""The length of a free answer."""
_MOST_TOKENS = 90
"""More than most answers with a schema or with calls have."""
_SCHEMAS = (
    "strict get_weather",
    "optional properties",
    "enum of hard texts",
    "anyOf",
    "recursive",
    "pydantic user",
    "openai moderation",
    "date-time",
    "number range",
)
_TOOLS = ("get_weather", "web_search", "strict get_weather", "grep", "bash")
_STOPS = ["e1", " stone", " willow7", "9c "]
"""One of these comes in about half of the free answers."""


@attrs.frozen(kw_only=True)
class Case:
    """One call, and what its answer has to be like."""

    kind: str
    api: Api
    body: Mapping[str, Any]
    """The body without `model` and `stream`."""
    streamed: bool
    schema: Any = None
    """The schema of the answer's text; None for any text."""
    tools: Mapping[str, Any] = attrs.field(factory=dict)
    """The schema of the arguments of each tool."""
    must_call: bool = False
    choices: int = 1
    """How many requests the call becomes."""


def case_of(rng: random.Random, prompt: str, kinds: Mapping[str, "Maker"] | None = None) -> Case:
    """A case of any kind. Each call has a prompt of its own, so that no two answers are the same."""
    makers = KINDS if kinds is None else kinds
    kind = rng.choice(sorted(makers))
    case = makers[kind](rng, prompt)
    return attrs.evolve(case, kind=kind, streamed=case.api != "embeddings" and rng.random() < 0.7)


def _case(api: Api, body: Body, **more: Any) -> Case:
    return Case(kind="", api=api, body=body, streamed=False, **more)


def _sampling(rng: random.Random) -> Body:
    return {"temperature": 0.0} if rng.random() < 0.5 else {"temperature": 1.0, "seed": rng.randrange(1000)}


def _chat(rng: random.Random, prompt: str, most: int = _TOKENS) -> Body:
    usage = {"stream_options": {"include_usage": True}} if rng.random() < 0.5 else {}
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": most, **_sampling(rng), **usage}


def _chat_schema(rng: random.Random, prompt: str) -> Case:
    name = rng.choice(_SCHEMAS)
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMAS[name]}}
    return _case("chat", _chat(rng, prompt, _MOST_TOKENS) | {"response_format": form}, schema=NEWEST_SCHEMAS[name])


def _chat_tools(rng: random.Random, prompt: str) -> Case:
    tools, mode = _some_tools(rng)
    functions = [{"type": "function", "function": {"name": name, "parameters": each}} for name, each in tools.items()]
    body = _chat(rng, prompt, _MOST_TOKENS) | {"tools": functions, "tool_choice": mode}
    return _case("chat", body, tools=tools, must_call=mode == "required")


def _chat_logprobs(rng: random.Random, prompt: str) -> Case:
    return _case("chat", _chat(rng, prompt) | {"logprobs": True, "top_logprobs": rng.randrange(3)})


def _chat_choices(rng: random.Random, prompt: str) -> Case:
    body = _chat(rng, prompt) | {"n": 2, "temperature": 1.0, "seed": 5, "stop": _STOPS[:2]}
    return _case("chat", body, choices=2)


def _completion_stop(rng: random.Random, prompt: str) -> Case:
    body = {"prompt": prompt, "max_tokens": _TOKENS, "stop": _STOPS, **_sampling(rng)}
    return _case("completions", body | ({"logprobs": 1} if rng.random() < 0.5 else {}))


def _completion_prompts(rng: random.Random, prompt: str) -> Case:
    body = {"prompt": [prompt, f"{prompt} again"], "max_tokens": _TOKENS, **_sampling(rng)}
    return _case("completions", body, choices=2)


def _response(rng: random.Random, prompt: str) -> Case:
    body = {"input": prompt, "max_output_tokens": _TOKENS, "temperature": 0.0}
    return _case("responses", body | ({"instructions": "Be short."} if rng.random() < 0.5 else {}))


def _response_schema(rng: random.Random, prompt: str) -> Case:
    name = rng.choice(_SCHEMAS)
    form = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMAS[name]}}
    body = {"input": prompt, "max_output_tokens": _MOST_TOKENS, "temperature": 0.0, "text": form}
    return _case("responses", body, schema=NEWEST_SCHEMAS[name])


def _response_tools(rng: random.Random, prompt: str) -> Case:
    tools, mode = _some_tools(rng)
    made = [{"type": "function", "name": name, "parameters": each} for name, each in tools.items()]
    body = {"input": prompt, "max_output_tokens": _MOST_TOKENS, "temperature": 0.0, "tools": made, "tool_choice": mode}
    return _case("responses", body, tools=tools, must_call=mode == "required")


def _message(prompt: str, most: int) -> Body:
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": most, "temperature": 0.0}


def _message_stop(_rng: random.Random, prompt: str) -> Case:
    return _case("messages", _message(prompt, _TOKENS) | {"stop_sequences": [each for each in _STOPS if each.strip()]})


def _message_tools(rng: random.Random, prompt: str) -> Case:
    tools, mode = _some_tools(rng)
    made = [{"name": name, "input_schema": each} for name, each in tools.items()]
    choice = {"type": "any" if mode == "required" else "auto"}
    body = _message(prompt, _MOST_TOKENS) | {"tools": made, "tool_choice": choice}
    return _case("messages", body, tools=tools, must_call=mode == "required")


def _native_stop(rng: random.Random, prompt: str) -> Case:
    return _case("native", {"prompt": prompt, "max_tokens": _TOKENS, "stop": _STOPS, **_sampling(rng)})


def _embeddings(rng: random.Random, prompt: str) -> Case:
    inputs = [f"{prompt} {number}" for number in range(rng.randrange(1, 4))]
    return _case("embeddings", {"input": inputs, "encoding_format": "float"}, choices=len(inputs))


def _some_tools(rng: random.Random) -> tuple[dict[str, Any], str]:
    names = rng.sample(_TOOLS, rng.randrange(1, 3))
    tools = {name.replace(" ", "_"): SCHEMAS[name] for name in names}
    return tools, "required" if rng.random() < 0.6 else "auto"


Maker = Callable[[random.Random, str], Case]

KINDS: Mapping[str, Maker] = {
    "chat with a schema": _chat_schema,
    "chat with tools": _chat_tools,
    "chat with log probabilities": _chat_logprobs,
    "chat of two choices": _chat_choices,
    "completion with stop strings": _completion_stop,
    "completion of two prompts": _completion_prompts,
    "response": _response,
    "response with a schema": _response_schema,
    "response with tools": _response_tools,
    "message with stop strings": _message_stop,
    "message with tools": _message_tools,
    "native with stop strings": _native_stop,
    "vectors": _embeddings,
}
"""Each kind of call."""
