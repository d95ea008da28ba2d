"""The attributes of OpenTelemetry's conventions for generative AI, without anything that a client wrote in words. Pure.

https://github.com/open-telemetry/semantic-conventions-genai describes them.
"""

from llmactors.messages import Finished, GenerateRequest, Terminal
from llmactors.telemetry.tracing.span import Value

PROVIDER = "llmactors"


def operation(request: GenerateRequest) -> str:
    """The name of the operation."""
    if request.inputs:
        return "embeddings" if request.query is None else "rerank"
    return "chat" if request.messages else "text_completion"


def request_attributes(request: GenerateRequest) -> dict[str, Value]:
    """What a span says of a request."""
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation(request),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": request.model,
        "gen_ai.response.id": request.id,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.top_p": request.top_p,
    }
    if request.seed is not None:
        found["gen_ai.request.seed"] = request.seed
    return found


def end_attributes(end: Terminal) -> dict[str, Value]:
    """What a span says of the end of an answer."""
    if not isinstance(end, Finished):
        return {}
    usage = end.usage
    return {
        "gen_ai.response.finish_reasons": (end.reason,),
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
    }
