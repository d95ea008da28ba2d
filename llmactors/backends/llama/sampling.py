"""llama.cpp's settings for drawing the tokens of an answer. Pure."""

import hashlib
from typing import Any

from llmactors.messages import GenerateRequest

HONOURED = frozenset(
    {
        "prompt_ids",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "ignore_eos",
        "top_k",
        "min_p",
        "repeat_penalty",
        "min_tokens",
        "constraint",
        "top_logprobs",
    }
)
"""The optional fields of a request that llama.cpp honours."""
_RANDOM_SEED = 0xFFFFFFFF


def sampling_of(request: GenerateRequest, *, position: int) -> dict[str, Any]:
    """The settings for sampling the tokens after the first `position` tokens of the answer.

    A continuation has a seed of its own, which follows from the request's seed and the position: the same position of
    the same request always draws the same.
    """
    chosen = _weighing(request, position)
    penalties = ["penalties"] if _PENALTIES & chosen.keys() else []
    if request.temperature <= 0:
        return chosen | {"samplers": [*penalties, "top_k"], "top_k": 1, "temperature": 0.0}
    seed = _RANDOM_SEED if request.seed is None else request.seed
    if request.seed is not None and position:
        seed = int.from_bytes(hashlib.sha256(f"{seed}:{position}".encode()).digest()[:4])
    # The order is that of vLLM. llama.cpp's own order has the temperature last.
    cuts = {name: value for name in ("min_p", "top_k") if (value := getattr(request, name))}
    return (
        chosen
        | cuts
        | {
            "samplers": [*penalties, "temperature", *cuts, "top_p"],
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": seed % _RANDOM_SEED if request.seed is not None else seed,
        }
    )


_PENALTIES = {"frequency_penalty", "presence_penalty", "repeat_penalty"}


def _weighing(request: GenerateRequest, position: int) -> dict[str, Any]:
    """The settings for weighing some tokens differently than the model does.

    They are the same for a continuation: llama.cpp looks for repetitions in the prompt and the answer alike, and the
    prompt of a continuation is both.
    """
    found: dict[str, Any] = {}
    if request.frequency_penalty or request.presence_penalty:
        found["frequency_penalty"] = request.frequency_penalty
        found["presence_penalty"] = request.presence_penalty
    if request.repeat_penalty != 1:
        found["repeat_penalty"] = request.repeat_penalty
    if request.logit_bias:
        found["logit_bias"] = request.logit_bias
    if request.ignore_eos or position < request.min_tokens:
        found["ignore_eos"] = True
    if request.top_logprobs is not None:
        found["n_probs"] = max(1, request.top_logprobs)
    return found
