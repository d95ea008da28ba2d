"""Which model made an answer. Pure."""

from collections.abc import Sequence

from llmactors.messages import GenerateRequest, TokenDelta


def answering_model(request: GenerateRequest, deltas: Sequence[TokenDelta]) -> str:
    """The name of the model that made an answer, from the tokens of its log from the first one on.

    A client asks for a model by its alias, and several upstreams may serve one alias with different models.
    """
    extra = deltas[0].extra if deltas else None
    return request.model if extra is None else extra.model or request.model
