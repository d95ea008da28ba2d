"""How long a model is to think before it answers, as clients ask for it. Pure."""

from typing import Literal

import msgspec

from llmactors.backends.base import Capabilities
from llmactors.messages import NO_THINKING, ReasoningTags

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""The values of OpenAI's API."""

_USUAL = "medium"
"""The default of OpenAI's API. Many clients send this value with every request, for what a model does by itself."""
_LITTLE = (*NO_THINKING, "low")
"""What a model that never thinks does by itself."""


def served_effort(asked: str, capabilities: Capabilities) -> str:
    """What the model is asked for; empty where the model does what the client wants without being asked.

    A value that the model cannot follow is returned as it is, and the request is refused with the client's field.
    """
    if "reasoning_effort" in capabilities.honours:
        return asked
    needless = asked == _USUAL or (asked in _LITTLE and capabilities.reasoning_tags is None)
    return "" if needless else asked


def tags_with(tags: ReasoningTags | None, effort: str) -> ReasoningTags | None:
    """The tags in an answer with this effort. A model that is not to think has both tags in its prompt already."""
    return msgspec.structs.replace(tags, begun=False) if tags is not None and effort in NO_THINKING else tags
