"""The formats by name, and which of them a chat template declares. Pure."""

from collections.abc import Mapping
from typing import Protocol

import attrs

from llmactors.grammar.expressions import Expression
from llmactors.messages import ReasoningTags
from llmactors.tool_calls import hermes, llama3, mistral
from llmactors.tool_calls.free_text import ANYTHING
from llmactors.tool_calls.merging import MergedRules
from llmactors.tool_calls.parser import CallParser


class CallGrammar(Protocol):
    """Makes the grammar of calls."""

    def __call__(self, merged: MergedRules, arguments: Mapping[str, Expression], *, parallel: bool) -> Expression:
        """The calls of functions, whose arguments follow the given expressions. Rules are added to `merged`."""
        ...


@attrs.frozen
class CallFormat:
    """How models of one family write calls."""

    parser: type[CallParser]
    calls: CallGrammar
    prose: Expression = ANYTHING
    """The answers without calls, for a format without a trigger."""

    @property
    def trigger(self) -> str:
        """The text with which calls begin; empty for a format in which a call is the whole answer."""
        return self.parser.trigger


FORMATS: Mapping[str, CallFormat] = {
    "hermes": CallFormat(hermes.HermesParser, hermes.hermes_calls),
    "llama3": CallFormat(llama3.Llama3Parser, llama3.llama3_calls, llama3.LLAMA3_PROSE),
    "mistral": CallFormat(mistral.MistralParser, mistral.mistral_calls),
}
"""The formats. The names are the values of `ToolUse.format`."""
PASSED_ON = "openai"
"""The format of a backend that passes tools on to another server, which reads the calls."""
_OTHER_CALLS = ("<function=", "<arg_key>")
"""What the templates of models contain that write something else than JSON between the tags of Hermes."""
_THINK = ("<think>", "</think>")


def declared_format(template: str) -> str:
    """The format in which a model with this chat template writes its calls; empty for a format that is not known here.

    The template must be one that renders tools.
    """
    if hermes.OPEN in template and "arguments" in template and not any(other in template for other in _OTHER_CALLS):
        return "hermes"
    if mistral.TRIGGER in template:
        return "mistral"
    if llama3.TAG in template or '"parameters": dictionary' in template:
        return "llama3"
    return ""


def declared_reasoning(template: str, prompt: str) -> ReasoningTags | None:
    """The tags around the reasoning of a model with this chat template; None if the template names none.

    `prompt` is the text that the template made of a conversation, up to where the answer begins.
    """
    opening, closing = _THINK
    if closing not in template:
        return None
    return ReasoningTags(opening, closing, begun=prompt.rstrip().endswith(opening))
