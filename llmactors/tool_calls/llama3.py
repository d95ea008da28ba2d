"""The format of Llama 3: the whole answer is one JSON object per call, or there is no call. Pure.

    {"name": "weather", "parameters": {"city": "Oslo"}}

The text `<|python_tag|>` may stand before a call, and a semicolon between two calls.
"""

from collections.abc import Mapping

from llmactors.grammar.expressions import Expression, Literal, optional, sequence
from llmactors.tool_calls.call_grammar import call_objects, repeated
from llmactors.tool_calls.call_head import Incomplete, NoCall, read_head
from llmactors.tool_calls.free_text import not_beginning
from llmactors.tool_calls.merging import MergedRules
from llmactors.tool_calls.parser import CallParser

TAG = "<|python_tag|>"
_KEYS = ("name", "type", "id", "parameters", "arguments")
LLAMA3_PROSE = not_beginning([TAG, " ", "\n", "\r", "\t", "{ ", "{\n", *(f'{{"{key}"' for key in _KEYS)])
"""The grammar of answers without calls: the texts that do not begin as a call does."""


class Llama3Parser(CallParser):
    """Reads calls at the beginning of the answer. From the first other text on, everything is content.

    Without the tag, an object without arguments is content: many answers are JSON objects with a name.
    """

    def _free(self) -> bool:
        """A call may begin here."""
        text = self._rest.lstrip()
        start = len(self._rest) - len(text)
        if text.startswith(TAG):
            start += len(TAG)
        elif TAG.startswith(text):
            return False
        try:
            head = read_head(self._rest, start)
        except Incomplete:
            return False
        except NoCall:
            self._state = self._prose
            return True
        if head.is_closed and head.arguments == "{}" and not text.startswith(TAG):
            self._state = self._prose
        else:
            self._begin(head)
        return True

    def _prose(self) -> bool:
        self._say(len(self._rest))
        return False

    def _after_object(self) -> bool:
        self._rest = self._rest.lstrip()
        if not self._rest:
            return False
        self._rest = self._rest.removeprefix(";")
        return self._leave()


def llama3_calls(merged: MergedRules, arguments: Mapping[str, Expression], *, parallel: bool) -> Expression:
    """The grammar of calls of functions with these arguments."""
    call = call_objects(merged, arguments, "parameters")
    return sequence(
        optional(Literal(TAG)), repeated(merged, call, sequence(";", optional(Literal(" "))), parallel=parallel)
    )
