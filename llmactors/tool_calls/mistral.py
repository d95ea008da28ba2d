"""The two formats of Mistral: a JSON array of calls, or, in newer models, names with their arguments. Pure.

[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}]
[TOOL_CALLS]weather[ARGS]{"city": "Oslo"}[TOOL_CALLS]time[ARGS]{}
"""

import re
from collections.abc import Mapping

from llmactors.grammar.characters import CharSet
from llmactors.grammar.expressions import Expression, Literal, Repetition, choice, optional, sequence
from llmactors.tool_calls.call_grammar import by_name, call_objects, repeated
from llmactors.tool_calls.call_head import MAX_HEAD, CallHead, Incomplete, NoCall, read_head
from llmactors.tool_calls.merging import MergedRules
from llmactors.tool_calls.parser import CallParser

TRIGGER = "[TOOL_CALLS]"
ARGUMENTS = "[ARGS]"
_ID = sequence(', "id": "', Repetition(CharSet.of([(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)]), 9, 9), '"')
_NAMED = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*(?:\[CALL_ID\]\s*[A-Za-z0-9_-]*\s*)?(?:\[ARGS\]\s*)?(?={)")
_NAMED_BEGINNING = re.compile(r"\s*(?:[A-Za-z0-9_.-]+\s*(?:\[[A-Z_\]]*\s*[A-Za-z0-9_-]*\s*(?:\[[A-Z\]]*\s*)?)?)?")
_ARRAY = re.compile(r"\s*\[\s*(?={)")
_ARRAY_BEGINNING = re.compile(r"\s*\[\s*")


class MistralParser(CallParser):
    """Reads calls in both formats."""

    trigger = TRIGGER

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self._in_array = False

    def _open(self, start: int) -> None:
        if array := _ARRAY.match(self._rest, start):
            head = read_head(self._rest, array.end())
            self._in_array = True
        elif named := _NAMED.match(self._rest, start):
            head = CallHead(named[1], named.end())
            self._in_array = False
        elif _NAMED_BEGINNING.fullmatch(self._rest, start) or _ARRAY_BEGINNING.fullmatch(self._rest, start):
            head = CallHead("", len(self._rest))
        else:
            raise NoCall
        if head.end - start > MAX_HEAD:
            raise NoCall
        if not head.name:
            raise Incomplete
        self._begin(head)

    def _object_end(self) -> bool:
        if self._in_array:
            return super()._object_end()
        return self._leave()  # here the arguments stand in no object

    def _after_object(self) -> bool:
        """A comma and the next call, or the end of the array."""
        self._rest = self._rest.lstrip()
        if not self._rest:
            return False
        if not self._rest.startswith(","):
            self._rest = self._rest.removeprefix("]")
            return self._leave()
        try:
            self._begin(read_head(self._rest, 1))
        except Incomplete:
            return False
        except NoCall:
            return self._leave()
        return True


def mistral_calls(merged: MergedRules, arguments: Mapping[str, Expression], *, parallel: bool) -> Expression:
    """The grammar of calls of functions with these arguments, in both formats."""
    objects = call_objects(merged, arguments, "arguments", optional(_ID))
    array = sequence(
        optional(Literal(" ")),
        "[",
        repeated(merged, objects, sequence(",", optional(Literal(" "))), parallel=parallel),
        "]",
    )
    middle = merged.name("args", optional(Literal(ARGUMENTS)))
    ways = {name: sequence(middle, each) for name, each in arguments.items()}
    named = merged.name("named-call", by_name(merged, ways))
    return sequence(TRIGGER, choice((array, repeated(merged, named, TRIGGER, parallel=parallel))))
