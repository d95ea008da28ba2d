"""The output items of a response, as a fold of its log: reasoning, messages and calls of functions. Pure.

Each item has the events that open it, that add to it and that close it. The items and events follow from the request
and its log alone, so that every gateway numbers them the same.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from llmactors.gateway.openai.logprobs import response_logprobs
from llmactors.messages import GenerateRequest, TokenDelta
from llmactors.tool_calls.fold import AnswerFold, needs_fold
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning

Event = tuple[str, dict[str, Any]]
"""The type of an event and its fields."""


class OutputItems:
    """The output items so far. Feed all tokens of the log from its beginning, then call `end`."""

    def __init__(self, request: GenerateRequest) -> None:
        self._own = request.id.removeprefix("req_")
        self._fold = AnswerFold(request)
        self.items: list[dict[str, Any]] = []
        """The items in the order of the answer. The last one may still grow."""
        self._texts: list[str] = []
        """What the last item has so far."""
        self._with_logprobs = request.top_logprobs is not None
        self._logprobs: list[msgspec.Raw] = []
        """The log probabilities of the tokens of the last item, if that is a message."""
        self._new_logprobs: list[msgspec.Raw] = []
        """The log probabilities that no event has had yet."""
        self._open: Piece | None = None
        """The first piece of the last item, until the item is closed."""

    def __repr__(self) -> str:
        return f"<OutputItems: {len(self.items)} items>"

    def feed(self, delta: TokenDelta) -> Iterator[Event]:
        """The events of the next token of the log, perhaps none."""
        if self._with_logprobs:
            self._new_logprobs += response_logprobs([delta])
        for piece in self._fold.feed(delta):
            yield from self._add(piece)

    def end(self, status: str) -> Iterator[Event]:
        """The last events. `status` is that of an item that the end of the answer closes.

        An answer without any other item ends with an empty message.
        """
        for piece in self._fold.end():
            yield from self._add(piece)
        if not self.items:
            yield from self._begin(Content(""))
        yield from self._close(status)

    def shown(self, status: str) -> list[dict[str, Any]]:
        """The items as they are now. `status` is that of the last item, if it is not closed."""
        if self._open is None:
            return self.items
        last = self._filled(self.items[-1], status)
        return [*self.items[:-1], last]

    def _add(self, piece: Piece) -> Iterator[Event]:
        if not _continues(self._open, piece):
            yield from self._close("completed")
            yield from self._begin(piece)
        text = "" if isinstance(piece, CallBegun) else piece.text
        if text:
            self._texts.append(text)
            place = self._place if isinstance(self._open, CallBegun) else {**self._place, "content_index": 0}
            more: dict[str, Any] = {}
            if isinstance(self._open, Content):
                more["logprobs"] = self._new_logprobs
                self._logprobs += self._new_logprobs
            self._new_logprobs = []
            yield f"response.{self._kind}.delta", {**place, "delta": text, **more}

    def _begin(self, piece: Piece) -> Iterator[Event]:
        self._open, self._texts, self._logprobs = piece, [], []
        self.items.append(self._new_item(piece))
        yield "response.output_item.added", {"output_index": self._index, "item": self.items[-1]}
        if not isinstance(piece, CallBegun):
            yield "response.content_part.added", {**self._place, "content_index": 0, "part": self._part("")}

    def _close(self, status: str) -> Iterator[Event]:
        if self._open is None:
            return
        text = "".join(self._texts)
        item = self._filled(self.items[-1], status)
        if isinstance(self._open, CallBegun):
            name = self._open.name
            yield "response.function_call_arguments.done", {**self._place, "name": name, "arguments": text}
        else:
            place = {**self._place, "content_index": 0}
            more: dict[str, Any] = {"logprobs": self._logprobs} if isinstance(self._open, Content) else {}
            yield f"response.{self._kind}.done", {**place, "text": text, **more}
            yield "response.content_part.done", {**place, "part": self._part(text)}
        yield "response.output_item.done", {"output_index": self._index, "item": item}
        self.items[-1] = item
        self._open = None

    @property
    def _index(self) -> int:
        return len(self.items) - 1

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.items[-1]["id"], "output_index": self._index}

    @property
    def _kind(self) -> str:
        """The part of an event's type that names what grows."""
        if isinstance(self._open, CallBegun):
            return "function_call_arguments"
        return "reasoning_text" if isinstance(self._open, Reasoning) else "output_text"

    def _new_item(self, piece: Piece) -> dict[str, Any]:
        number = len(self.items)
        # The first message has the id that the message of a response without calls has.
        ending = f"{self._own}_{number}" if number else self._own
        match piece:
            case CallBegun(_, call_id, name):
                call = {"type": "function_call", "status": "in_progress", "call_id": call_id}
                return {"id": f"fc_{ending}", **call, "name": name, "arguments": ""}
            case Reasoning():
                return {
                    "id": f"rs_{ending}",
                    "type": "reasoning",
                    "status": "in_progress",
                    "summary": [],
                    "content": [],
                }
            case _:
                message = {"type": "message", "status": "in_progress", "role": "assistant"}
                return {"id": f"msg_{ending}", **message, "content": []}

    def _filled(self, item: dict[str, Any], status: str) -> dict[str, Any]:
        text = "".join(self._texts)
        filled = {**item, "status": status}
        if isinstance(self._open, CallBegun):
            return {**filled, "arguments": text}
        return {**filled, "content": [self._part(text)]}

    def _part(self, text: str) -> dict[str, Any]:
        if isinstance(self._open, Reasoning):
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self._logprobs)}


def needs_items(request: GenerateRequest) -> bool:
    """Whether the response may have more than one message with the text of the log."""
    return needs_fold(request) or request.top_logprobs is not None


def _continues(first: Piece | None, piece: Piece) -> bool:
    """Whether a piece belongs to the item that began with `first`."""
    if isinstance(piece, CallArguments):
        return isinstance(first, CallBegun) and first.index == piece.index
    return not isinstance(piece, CallBegun) and type(first) is type(piece)


def fold_items(request: GenerateRequest, deltas: Iterable[TokenDelta], status: str, *, is_over: bool) -> OutputItems:
    """The items of a log. `status` is that of the last item; with `is_over`, the log has ended."""
    items = OutputItems(request)
    for delta in deltas:
        for _ in items.feed(delta):
            pass
    if is_over:
        for _ in items.end(status):
            pass
    return items
