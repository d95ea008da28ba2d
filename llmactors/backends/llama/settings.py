"""How llama.cpp runs a model: slots, context, threads, and how long it may be silent."""

import attrs

from llmactors.backends.cores import usable_cores


def _spare_cores() -> int:
    # One core is left to the event loop. llama.cpp's threads wait for each other at every layer: with a thread on every
    # core, any other busy process makes llama.cpp slower by a factor, not by a share.
    return max(1, usable_cores() - 1)


@attrs.frozen
class LlamaSettings:
    """How llama.cpp runs a model."""

    slots: int = attrs.field(default=8, validator=attrs.validators.gt(0))
    context_tokens: int = attrs.field(default=2048, validator=attrs.validators.gt(0))
    """The context of each slot; less where the model was trained on less. All slots take their memory at the start."""
    threads: int = attrs.field(factory=_spare_cores, validator=attrs.validators.gt(0))
    reproducible: bool = True
    """Greedy and seeded requests give the same text on every worker and after every takeover.

    These requests pay for that: their prompts are never read from another request's cache, and a takeover makes the
    logged tokens again, one by one. With `reproducible=False` a takeover continues with the same meaning, but not
    always with the same words, since a model rounds a token in a prompt unlike the same token in an answer.
    """
    step_tokens: int = attrs.field(default=512, validator=attrs.validators.gt(0))
    """How many tokens of a prompt are read in one step. Neither a cancel nor the other streams can interrupt a step.
    Smaller steps round prompts that are read together differently, so that greedy answers may differ under load."""
    chat_template: str = ""
    """The template of conversations, in Jinja; empty for the template of the model file."""
    mmproj: str = ""
    """The path of the projector, a GGUF file that makes images into what the model reads; empty for a model without
    images."""
    lora: str = ""
    """The path of an adapter (LoRA), a GGUF file that changes the model; empty for the model as it is."""
    gpu_layers: int | None = None
    """How many layers a GPU computes; a number above 0 needs a GPU. None: as many as fit, where there is a GPU."""
    flash_attn: str = "auto"
    """`on`, `off`, or `auto`: where the device supports flash attention."""
    kv_type: str = "f16"
    """The type of the numbers of keys and values. A smaller type takes less memory, and changes answers a little."""
    health_s: float = 2.0
    """How long the child may take to answer a health check."""
    stall_s: float = 30.0
    """How long all sequences together may have no output, in addition to the time for reading their prompts."""
    slowest_prompt_tokens_per_s: float = 20.0
    """The lowest speed of reading prompts that does not count as a hang."""
