"""The format of Hermes and Qwen: one JSON object per call, between two tags. Pure.

<tool_call>
{"name": "weather", "arguments": {"city": "Oslo"}}
</tool_call>
"""

from collections.abc import Mapping

from llmactors.grammar.expressions import Expression, sequence
from llmactors.tool_calls.call_grammar import call_objects, repeated
from llmactors.tool_calls.call_head import read_head
from llmactors.tool_calls.merging import MergedRules
from llmactors.tool_calls.parser import CallParser

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(CallParser):
    """Reads calls between tags. Text before, between and after them is content."""

    trigger = OPEN

    def _open(self, start: int) -> None:
        self._begin(read_head(self._rest, start))

    def _after_object(self) -> bool:
        self._rest = self._rest.lstrip()
        if self._rest.startswith(CLOSE):
            self._rest = self._rest[len(CLOSE) :]
            return self._leave()
        return not CLOSE.startswith(self._rest) and self._leave()


def hermes_calls(merged: MergedRules, arguments: Mapping[str, Expression], *, parallel: bool) -> Expression:
    """The grammar of calls of functions with these arguments."""
    call = merged.name("tool-call", sequence(OPEN, "\n", call_objects(merged, arguments, "arguments"), "\n", CLOSE))
    return repeated(merged, call, "\n", parallel=parallel)
