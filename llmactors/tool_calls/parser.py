"""The part that the parsers of all formats share. Pure.

A parser gets the text of an answer in parts, and returns content and calls. However the text is cut into parts, the
pieces joined together are the same. Text that may be the beginning of a call is kept until that is decided. White space
around calls is dropped.

Text that looks like a call and is none is content. If the end of the answer comes before the name and the beginning of
the arguments of a call, the text of that call is content too. If the end comes inside of the arguments, the call has
the arguments as far as they came: the reason of the end says that the answer was cut, as OpenAI's API does.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from llmactors.tool_calls.call_head import CallHead, Incomplete, NoCall
from llmactors.tool_calls.json_value import JsonValue
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, call_id
from llmactors.tool_calls.tags import undecided


class CallParser(ABC):
    """The parser of one answer. Each format has a subclass.

    A state is a method that takes what it can from the beginning of `_rest`, and returns whether the next state may go
    on at once.
    """

    trigger = ""
    """The text with which calls begin."""

    def __init__(self, request_id: str) -> None:
        self._id = request_id
        self._rest = ""
        """The text that no piece has yet."""
        self._out: list[Piece] = []
        self._state: Callable[[], bool] = self._free
        self._value = JsonValue()
        self._drops_space = False
        """Whether white space at the beginning of `_rest` stands directly after a call."""
        self.calls = 0
        """How many calls have begun."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} after {self.calls} calls>"

    def feed(self, text: str) -> list[Piece]:
        """The pieces that the next part of the text completes."""
        self._rest += text
        while self._state():
            pass
        return self._take()

    def end(self) -> list[Piece]:
        """The last pieces, after the last part of the text."""
        if self._keeps_content():
            self._say(len(self._rest))
        self._rest = ""
        return self._take()

    def _take(self) -> list[Piece]:
        out, self._out = self._out, []
        return out

    def _say(self, length: int) -> None:
        """Moves text from the beginning of `_rest` to the content."""
        text, self._rest = self._rest[:length], self._rest[length:]
        if self._drops_space:
            text = text.lstrip()
        if text:
            self._drops_space = False
            self._out.append(Content(text))

    def _keeps_content(self) -> bool:
        """Whether the text that is left at the end is content."""
        return self._state in {self._free, self._opening}

    # The states.

    def _free(self) -> bool:
        """Text up to the trigger is content."""
        if self._drops_space:
            self._rest = self._rest.lstrip()
        at = self._rest.find(self.trigger)
        if at >= 0:
            self._say(len(self._rest[:at].rstrip()))
            self._state = self._opening
            return True
        self._say(len(self._rest) - undecided(self._rest, (self.trigger,)))
        return False

    def _opening(self) -> bool:
        """A call may begin here, after white space and the trigger."""
        start = self._rest.index(self.trigger) + len(self.trigger)
        try:
            self._open(start)
        except Incomplete:
            return False
        except NoCall:
            self._say(start)
            self._state = self._free
        return True

    def _open(self, start: int) -> None:  # noqa: ARG002 - for the formats that read something here
        """Reads the beginning of the first call behind the trigger. Raises `Incomplete` or `NoCall`.

        A format without a trigger has an `_opening` of its own, and nothing to read here.
        """
        raise NoCall

    def _begin(self, head: CallHead) -> None:
        """Begins a call. `_after_object` is the state after the call."""
        self._out.append(CallBegun(self.calls, call_id(self._id, self.calls), head.name))
        self.calls += 1
        self._rest = self._rest[head.end :]
        if head.arguments is None:
            self._value = JsonValue()
            self._state = self._arguments
            return
        self._out.append(CallArguments(self.calls - 1, head.arguments))
        self._value = JsonValue(depth=1)
        self._state = self._after_object if head.is_closed else self._object_end

    def _arguments(self) -> bool:
        if not self._rest:
            return False
        end = self._value.end(self._rest)
        self._out.append(CallArguments(self.calls - 1, self._rest[:end]))
        self._rest = "" if end is None else self._rest[end:]
        if end is None:
            return False
        self._value = JsonValue(depth=1)
        self._state = self._object_end
        return True

    def _object_end(self) -> bool:
        """What follows the arguments in the object of the call is left out."""
        end = self._value.end(self._rest)
        self._rest = "" if end is None else self._rest[end:]
        if end is not None:
            self._state = self._after_object
        return end is not None

    @abstractmethod
    def _after_object(self) -> bool:
        """What follows the object of a call."""

    def _leave(self) -> bool:
        """Goes back to content after the last call."""
        self._drops_space = True
        self._state = self._free
        return True
