"""The client libraries that are tried, the features, and the failures that are known. Pure."""

from collections.abc import Mapping
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent

FEATURES: Mapping[str, str] = {
    "plain": "a whole answer",
    "stream": "a streamed answer",
    "schema": "structured output, as the library makes it from a type",
    "tools": "a call of a tool, whole",
    "tools stream": "a streamed call of a tool",
    "tool result": "a conversation of several turns with a call and its result",
    "logprobs": "log probabilities",
    "reasoning": "a request with the effort `medium` or a budget, which the mock accepts and which changes nothing",
    "embeddings": "vectors",
    "images": "content with images",
    "responses": "OpenAI's responses, whole and streamed",
    "responses tools": "calls of tools and schemas in OpenAI's responses",
    "messages": "Anthropic's messages, in libraries that are made for OpenAI's API",
    "errors": "the class of the library's error for an unknown model and for a wrong value",
    "resume": "the same request again: by an idempotency key, or a background response followed from the middle",
    "takeover": "a streamed call of a tool during which the backend crashes: the same call as without the crash",
}
"""The columns of the table, in order, and what each shows."""


FRAGILE = ("openai", "anthropic", "ai")
"""For each of these, the node of the mock also serves a model `fragile-NAME`, which crashes once: at its 20th token."""


@attrs.frozen(kw_only=True)
class Client:
    """One row of the table."""

    name: str
    packages: tuple[str, ...]
    """What pip or npm installs. Each version is bounded by its major number, or by its minor number below 1."""
    script: str
    """The script that tries the library, below `python` or `node`. Its suffix says which of the two runs the script."""
    arguments: tuple[str, ...] = ()
    needs_model: bool = False
    """Whether the script also asks the default model, beside the mock."""
    known: Mapping[str, str] = attrs.field(factory=dict)
    """The attempts that fail, each with the reason. A known failure that passes is an error too."""
    within_s: int = 180

    @property
    def path(self) -> Path:
        """The file of the script."""
        return HERE / self.language / self.script

    @property
    def language(self) -> str:
        """`python` or `node`."""
        return "python" if self.script.endswith(".py") else "node"


_AI = ("ai@^7", "@ai-sdk/openai-compatible@^3", "@ai-sdk/openai@^4", "@ai-sdk/anthropic@^4", "zod@^4")

CLIENTS: tuple[Client, ...] = (
    Client(name="openai 2 (Python)", packages=("openai>=2,<3",), script="openai_sdk.py"),
    Client(name="openai 3 (Python)", packages=("openai>=3,<4",), script="openai_sdk.py", needs_model=True),
    Client(name="openai (npm)", packages=("openai@^7", "zod@^4"), script="openai_sdk.mjs"),
    Client(name="anthropic (Python)", packages=("anthropic>=2,<3",), script="anthropic_sdk.py", needs_model=True),
    Client(name="anthropic (npm)", packages=("@anthropic-ai/sdk@^1", "zod@^4"), script="anthropic_sdk.mjs"),
    Client(name="langchain-openai", packages=("langchain-openai>=1,<2",), script="langchain.py"),
    Client(
        name="llama-index",
        packages=("llama-index-llms-openai-like>=0.8,<0.9", "llama-index-embeddings-openai-like>=0.4,<0.5"),
        script="llama_index_sdk.py",
    ),
    Client(name="pydantic-ai", packages=("pydantic-ai-slim[openai,anthropic]>=2,<3",), script="pydantic_ai_sdk.py"),
    Client(name="instructor", packages=("instructor>=1,<2",), script="instructor_sdk.py"),
    Client(name="openai-agents", packages=("openai-agents>=0.24,<0.25",), script="agents_sdk.py"),
    Client(name="litellm", packages=("litellm>=1,<2",), script="litellm_sdk.py"),
    Client(name="ai, openai-compatible", packages=_AI, script="ai_sdk.mjs", arguments=("compatible",)),
    Client(name="ai, openai chat", packages=_AI, script="ai_sdk.mjs", arguments=("chat",)),
    Client(
        name="ai, openai responses",
        packages=_AI,
        script="ai_sdk.mjs",
        arguments=("responses",),
        known={
            "effort with summary": "With `reasoningEffort` alone the provider also asks for a summary of the "
            "reasoning, which is not served. Set `reasoningSummary: null`."
        },
    ),
    Client(name="ai, anthropic", packages=_AI, script="ai_sdk.mjs", arguments=("anthropic",)),
    Client(name="guidellm", packages=("guidellm>=0.8,<0.9",), script="guidellm_run.py", within_s=300),
    *(
        Client(
            name=f"llm-comply, {api}",
            packages=("llm-comply>=0.5,<0.6",),
            script="llm_comply_run.py",
            arguments=(api,),
            known={test: "The model that is tried takes no images, and the image is refused by its place."},
        )
        for api, test in (
            ("open-responses", "image-input"),
            ("openai-chat", "chat-image-input"),
            ("anthropic", "anth-image-input"),
        )
    ),
)
