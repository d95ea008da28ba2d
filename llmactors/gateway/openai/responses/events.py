"""A response as a stream of numbered events. Every gateway renders the same events. Pure.

The `sequence_number` of an event follows from the log alone:

    0             response.created, before there is a log
    1, 2, 3       response.in_progress, output_item.added, content_part.added: with the first token
    3 + seq       output_text.delta of the token `seq`, also of a token without text
    and after the last token
                  output_text.done, content_part.done, output_item.done, and response.completed or .incomplete;
                  or, if the answer was not finished, error and response.failed

A response that fails or is cancelled before its first token has no output item: its end comes right after event 0.

With tools or reasoning, a token may have several events or none: `output` makes the events of the items, and they are
numbered one after the other.
"""

from collections.abc import Iterator
from typing import Any

from llmactors.errors import LlmactorsError
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.native.events import KEEP_ALIVE
from llmactors.gateway.openai.errors import error_object
from llmactors.gateway.openai.render import error_of
from llmactors.gateway.openai.responses.output import Event, OutputItems, needs_items
from llmactors.gateway.openai.responses.view import ResponseView, has_item, item_status_at, text_part
from llmactors.http.line_safe_json import encode
from llmactors.ledger import LogSlice
from llmactors.messages import Failed, Terminal

_LAST = {"completed": "response.completed", "incomplete": "response.incomplete", "cancelled": "response.incomplete"}


class EventRenderer:
    """Renders the events after number `starting_after`; -1 for all events.

    The renderer needs the log from its beginning.
    """

    keep_alive = KEEP_ALIVE

    def __init__(self, view: ResponseView, starting_after: int = -1) -> None:
        self._view = view
        self._after = starting_after
        self._number = 0
        """The number of the last event, whether the event was rendered or left out."""
        self._model = view.request.model
        """The name of the model that answers, as far as the log says."""
        self._items = OutputItems(view.request) if needs_items(view.request) else None
        self._texts: list[str] = []
        self._place = {"item_id": view.item_id, "output_index": 0, "content_index": 0}
        delta = {**self._place, "delta": "\0", "logprobs": []}
        before, _, rest = _event("response.output_text.delta", 0, delta).partition(b'"sequence_number":0')
        between, _, after = rest.partition(rb'"\u0000"')
        self._delta = before + b'"sequence_number":%d' + between + b"%b" + after

    def begin(self) -> bytes:
        """The first event, which does not depend on the log."""
        if self._after >= 0:
            return b""
        return _event("response.created", 0, {"response": self._view.object(self._view.first_status)})

    def render(self, part: LogSlice) -> bytes:
        """The events of a slice of the log, as one write. Events that the client has are left out."""
        return b"".join(self.render_apart(part))

    def render_apart(self, part: LogSlice) -> Iterator[bytes]:
        """As `render`, with each event of the end by itself: each of these events shows the whole answer."""
        yield self._render_tokens(part)
        if part.end is not None:
            yield from self._some(self._ending(part.end))

    def _render_tokens(self, part: LogSlice) -> bytes:
        pieces: list[bytes] = []
        if not self._number and has_item(len(part.deltas), part.end):
            self._model = answering_model(self._view.request, part.deltas)
            pieces += self._some(self._opening())
        if self._items is not None:
            for delta in part.deltas:
                pieces += self._some(self._items.feed(delta))
            return b"".join(pieces)
        texts, after = self._texts, self._after
        number = self._number
        for delta in part.deltas:
            number += 1
            texts.append(delta.text)
            if number > after:
                pieces.append(self._delta % (number, encode(delta.text)))
        self._number = number
        return b"".join(pieces)

    def render_cut(self, error: LlmactorsError) -> bytes:
        """The last event of a connection that was cut while its response goes on.

        The event is in no log, and has the number of the event before. A client that follows the response from this
        number misses nothing.
        """
        return _error(max(self._number, self._after), error)

    def _some(self, events: Iterator[Event]) -> Iterator[bytes]:
        """Numbers the events, and renders those that the client does not have."""
        for name, fields in events:
            self._number += 1
            if self._number > self._after:
                yield _event(name, self._number, fields)

    def _opening(self) -> Iterator[Event]:
        view = self._view
        yield "response.in_progress", {"response": view.object("in_progress", model=self._model)}
        if self._items is not None:
            return  # each item opens with its first token
        yield "response.output_item.added", {"output_index": 0, "item": view.item("in_progress", None)}
        yield "response.content_part.added", {**self._place, "part": text_part("")}

    def _closing(self, text: str, item: dict[str, Any]) -> list[Event]:
        """The last events of the one item."""
        return [
            ("response.output_text.done", {**self._place, "text": text, "logprobs": []}),
            ("response.content_part.done", {**self._place, "part": text_part(text)}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
        ]

    def _ending(self, end: Terminal) -> Iterator[Event]:
        # Only a response whose first token has come has an output item.
        begun = bool(self._number)
        text, status = "".join(self._texts), item_status_at(end)
        last: list[Event] = []
        output: list[dict[str, Any]] = []
        if begun and self._items is not None:
            last = list(self._items.end(status))
            output = self._items.items
        elif begun:
            output = [self._view.item(status, text)]
            last = self._closing(text, output[0])
        response = self._view.ended(end, output, model=self._model)
        if isinstance(end, Failed):
            error = error_of(end)
            assert error is not None  # noqa: S101 - `Failed` has an error
            # OpenAI's library raises an exception for this event, so that no program takes a part of an answer for the
            # whole answer.
            yield "error", _error_fields(error)
            yield "response.failed", {"response": response}
            return
        yield from last
        yield _LAST[response["status"]], {"response": response}


def _error(number: int, error: LlmactorsError) -> bytes:
    return _event("error", number, _error_fields(error))


def _error_fields(error: LlmactorsError) -> dict[str, Any]:
    """The error twice: in the form that OpenAI documents, and in the form that OpenAI's servers send and its libraries
    read.
    """
    nested = error_object(error)["error"]
    return {"code": nested["code"], "message": nested["message"], "param": nested["param"], "error": nested}


def _event(name: str, number: int, fields: dict[str, Any]) -> bytes:
    payload = {"type": name, "sequence_number": number, **fields}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(payload))
