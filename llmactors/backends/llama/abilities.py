"""What llama.cpp can do with a model: as its server has told, or as the model's file lets one expect. Pure."""

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.llama.conversation import knows_effort
from llmactors.backends.llama.gguf import POOLING_RANK, Gguf
from llmactors.backends.llama.sampling import HONOURED
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.messages import ReasoningTags
from llmactors.tool_calls.formats import declared_format, declared_reasoning

_PROCESS_BYTES = 160 * 2**20
"""The memory of a child process beside weights and cache: the interpreter, and buffers for computing."""

_BITS = {"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5}
"""The bits of one number of a context's keys and values: a block of 32 numbers has a scale or two of 16 bits."""


def declare(
    settings: LlamaSettings,
    context_tokens: int,
    *,
    ranks: bool | None = None,
    tool_format: str = "",
    knows_effort: bool = False,
    reasoning_tags: ReasoningTags | None = None,
) -> Capabilities:
    """The capabilities of a backend of which this is known. `ranks` is None where the model's file is not there yet."""
    return Capabilities(
        settings.slots,
        context_tokens,
        Takeover.EXACT if settings.reproducible else Takeover.CONTINUE,
        honours=HONOURED.union(
            ["tools"] if tool_format else (),
            ["reasoning_effort"] if knows_effort else (),
            ["images"] if settings.mmproj and not ranks else (),
            () if ranks is None else ["query"] if ranks else ["inputs"],
        ),
        answers=not ranks,
        tool_format=tool_format,
        reasoning_tags=reasoning_tags,
    )


def foresee(settings: LlamaSettings, gguf: Gguf | None) -> Capabilities:
    """The capabilities that a backend will probably declare; `gguf` is None where the file is not there yet."""
    if gguf is None:
        return declare(settings, settings.context_tokens)
    template = settings.chat_template or gguf.chat_template
    return declare(
        settings,
        min(settings.context_tokens, gguf.trained_context or settings.context_tokens),
        ranks=gguf.pooling == POOLING_RANK,
        tool_format=declared_format(template) if "tools" in template else "",
        knows_effort=knows_effort(template),
        # Whether the prompt opens the reasoning is seen once llama.cpp has rendered a prompt.
        reasoning_tags=declared_reasoning(template, ""),
    )


def memory_bytes(settings: LlamaSettings, gguf: Gguf, file_bytes: int) -> int:
    """About how much memory the model takes: its files, the context of all slots, and the child process."""
    context = min(settings.context_tokens, gguf.trained_context or settings.context_tokens)
    cache_bytes = gguf.cache_bytes_per_token * context * settings.slots * _BITS[settings.kv_type] / 16
    return file_bytes + round(cache_bytes) + _PROCESS_BYTES
