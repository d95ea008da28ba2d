"""Whether prompt and answer fit into the context of the model together. Pure."""

import attrs

from llmactors.errors import ContextExceeded
from llmactors.messages import GenerateRequest


def fit(request: GenerateRequest, prompt_tokens: int, context_tokens: int) -> GenerateRequest:
    """Returns the request, with a lower `max_tokens` where `max_tokens_fit` allows that. Raises `ContextExceeded`."""
    left = context_tokens - prompt_tokens
    if request.max_tokens <= left:
        return request
    if request.max_tokens_fit and left > 0:
        return attrs.evolve(request, max_tokens=left)
    if request.max_tokens_fit:
        raise ContextExceeded(
            f"the prompt has {prompt_tokens} tokens, and this model's maximum context length is {context_tokens} tokens"
            ", prompt and answer together"
        )
    raise ContextExceeded(
        f"prompt and max_tokens do not fit: {prompt_tokens} + {request.max_tokens} tokens,"
        f" and this model's maximum context length is {context_tokens} tokens"
    )
