"""The same client, model and requests against llama.cpp's own OpenAI routes and against ours.

Both servers use the same llama.cpp. `ACCEPTED` lists the differences that are accepted, with reasons.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest

from llmactors.backends.build import ServedModel
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.testing.node import local_node

pytestmark = [
    pytest.mark.integration,
    pytest.mark.model,
    pytest.mark.timeout(120),
    # The client leaves its generators to the garbage collector, and Trio warns about that.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

THEIRS, OURS = "only llama.cpp's", "only ours"
ACCEPTED = {
    ("system_fingerprint", THEIRS): "names a build; OpenAI documents it as optional",
    ("timings", THEIRS): "llama.cpp's own addition: our metrics tell of times",
    ("choices.logprobs", OURS): "OpenAI's schema asks for it, as null",
    ("choices.message.refusal", OURS): "OpenAI's schema asks for it, as null",
}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Say hello."}]}
FRANCE: dict[str, Any] = {"prompt": "The capital of France is"}
REQUESTS = {
    "a chat that ends by itself": CHAT | {"max_tokens": 40},
    "a chat that is cut": CHAT | {"max_tokens": 4},
    "a chat with a system": {"messages": [{"role": "system", "content": ""}, *CHAT["messages"]], "max_tokens": 4},
    "a chat with a stop string": CHAT | {"max_tokens": 40, "stop": ["!"]},
    "a chat of parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], "max_tokens": 4},
    "a chat that goes on": {
        "messages": [*CHAT["messages"], {"role": "assistant", "content": "Hi!"}, *CHAT["messages"]],
        "max_completion_tokens": 4,
    },
    "a completion that is cut": FRANCE | {"max_tokens": 4},
    "a completion with a stop string": FRANCE | {"max_tokens": 30, "stop": ["."]},
    "a completion of token ids": {"prompt": [504, 3575, 282, 4649, 314], "max_tokens": 4},
    "a completion with a penalty": FRANCE | {"max_tokens": 12, "frequency_penalty": 1.5, "presence_penalty": 0.5},
    "a completion with a bias": FRANCE | {"max_tokens": 4, "logit_bias": {"7042": -100}},
}


@contextlib.asynccontextmanager
async def both(gguf: Path) -> AsyncIterator[tuple[openai.AsyncOpenAI, openai.AsyncOpenAI]]:
    """Runs llama.cpp's server and ours with it as upstream; yields a client of each."""
    made: list[LlamaBackend] = []

    def make() -> LlamaBackend:
        made.append(LlamaBackend(gguf, LlamaSettings(slots=2, context_tokens=256, threads=1)))
        return made[0]

    async with local_node(ServedModel("smol", make)) as node:
        await node.wait_ready()
        assert made[0]._connected is not None
        server, key = made[0]._connected.url, made[0]._config.api_key
        async with (
            openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=key, max_retries=0) as theirs,
            openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as ours,
        ):
            yield theirs, ours


@attrs.frozen
class Told:
    """The answer that a client read."""

    text: str
    reason: str
    completion_tokens: int
    paths: dict[str, set[str]]
    """The types of the values at each path of the answers."""


async def ask(client: openai.AsyncOpenAI, request: dict[str, Any], *, stream: bool) -> Told:
    more: dict[str, Any] = {"model": "smol", "temperature": 0}
    if stream:
        more |= {"stream": True, "stream_options": {"include_usage": True}}
    create: Any = client.chat.completions.create if "messages" in request else client.completions.create
    answer = await create(**request, **more)
    parts = (
        [part.model_dump(exclude_unset=True) async for part in answer]
        if stream
        else [answer.model_dump(exclude_unset=True)]
    )
    choices = [choice for part in parts for choice in part["choices"]]
    texts = [_text(choice) for choice in choices]
    [reason] = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    [usage] = [part["usage"] for part in parts if part.get("usage")]
    paths: dict[str, set[str]] = {}
    for part in parts:
        for path, kind in _paths(part):
            paths.setdefault(path, set()).add(kind)
    return Told("".join(texts), reason, usage["completion_tokens"], paths)


def _text(choice: dict[str, Any]) -> str:
    found = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    return found.get("content") or ""


def _paths(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    if path:
        yield path, type(value).__name__
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            for name, below in each.items():
                yield from _paths(below, f"{path}.{name}" if path else name)


def differences(theirs: Told, ours: Told) -> set[tuple[str, str]]:
    """The fields that only one answer has, without the fields below them, and the fields of different types."""
    found = {(path, THEIRS) for path in theirs.paths.keys() - ours.paths.keys()}
    found |= {(path, OURS) for path in ours.paths.keys() - theirs.paths.keys()}
    found = {(path, whose) for path, whose in found if (path.rpartition(".")[0], whose) not in found}
    for path in theirs.paths.keys() & ours.paths.keys():
        known, new = theirs.paths[path] - {"NoneType"}, ours.paths[path] - {"NoneType"}
        if known and new and known != new:
            found.add((path, f"{sorted(known)} is {sorted(new)} here"))
    return found


async def test_answers_equal_those_of_llama_server(gguf: Path) -> None:
    met: set[tuple[str, str]] = set()
    async with both(gguf) as (theirs, ours):
        for name, request in REQUESTS.items():
            for stream in (False, True):
                known, new = await ask(theirs, request, stream=stream), await ask(ours, request, stream=stream)
                where = f"{name}, {'stream' if stream else 'whole'}"
                assert (new.text, new.reason) == (known.text, known.reason), where
                assert new.completion_tokens == known.completion_tokens, where
                assert differences(known, new) <= ACCEPTED.keys(), where
                met |= differences(known, new)
    assert met == ACCEPTED.keys(), "what is no difference any more needs no excuse"


async def test_too_long_prompt_is_refused_by_both_servers(gguf: Path) -> None:
    """llama.cpp's `code` is the number 400 and its `type` its own. Ours are OpenAI's, which clients compare."""
    long: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * 400}], "max_tokens": 4}
    async with both(gguf) as (theirs, ours):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError):
                await theirs.chat.completions.create(model="smol", **long, stream=stream)
            with pytest.raises(openai.BadRequestError) as refused:
                await ours.chat.completions.create(model="smol", **long, stream=stream)
            assert refused.value.code == "context_length_exceeded"
            assert refused.value.type == "invalid_request_error"
            assert "maximum context length is 256 tokens" in refused.value.message
