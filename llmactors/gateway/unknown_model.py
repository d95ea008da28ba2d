"""The refusal of a model that the caller cannot use."""

from llmactors.errors import NotFound


class UnknownModel(NotFound):
    """No such model is served, or the caller may not use the model."""
