"""Why an answer ended, as Anthropic's clients read it. Pure."""

from collections.abc import Iterable

from llmactors.messages import Finished, GenerateRequest, TokenDelta


def stop_string_in(deltas: Iterable[TokenDelta]) -> str:
    """The stop string that ended the answer; empty where none did."""
    return next((delta.extra.stop for delta in deltas if delta.extra is not None and delta.extra.stop), "")


def stop_reason(request: GenerateRequest, end: Finished, *, stop: str, calls: int) -> str:
    """The value of `stop_reason`.

    Args:
        request: The request of the answer.
        end: The end of the answer.
        stop: The stop string that ended the answer, or empty.
        calls: The number of calls of tools in the answer.
    """
    if end.reason == "length":
        # `max_tokens` was lowered to what the context left.
        fitted = end.usage.completion_tokens < request.max_tokens
        return "model_context_window_exceeded" if fitted else "max_tokens"
    if stop:
        return "stop_sequence"
    return "tool_use" if calls else "end_turn"
