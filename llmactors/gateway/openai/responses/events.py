"""A response as a stream of numbered events, which any gateway renders alike. Pure; of a token only its text is new.

The `sequence_number` of an event follows from the log alone:

    0             response.created, before there is a log
    1, 2, 3       response.in_progress, output_item.added, content_part.added: with the first token
    3 + seq       output_text.delta of the token `seq`, also of one that adds no text
    and after the last token
                  output_text.done, content_part.done, output_item.done, and response.completed or .incomplete;
                  or, where the answer could not be finished, error and response.failed

A log without a token that ends in a failure or is cancelled makes no output item, so its end follows on event 0.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from llmactors.errors import LlmactorsError
from llmactors.gateway.openai.errors import error_object
from llmactors.gateway.openai.render import error_of
from llmactors.gateway.openai.responses.view import ResponseView, has_item, item_status_at, text_part
from llmactors.ledger import LogSlice
from llmactors.messages import Failed, Terminal

_encode = msgspec.json.encode

_LAST = {"completed": "response.completed", "incomplete": "response.incomplete", "cancelled": "response.incomplete"}


class EventRenderer:
    """Renders the events after number `starting_after`; -1: all. Feed it the log from its beginning."""

    keep_alive = b""

    def __init__(self, shown: ResponseView, starting_after: int = -1) -> None:
        self._shown = shown
        self._after = starting_after
        self._number = 0
        """Of the last event, rendered or passed over."""
        self._texts: list[str] = []
        self._place = {"item_id": shown.item_id, "output_index": 0, "content_index": 0}
        delta = {**self._place, "delta": "\0", "logprobs": []}
        before, _, rest = _event("response.output_text.delta", 0, delta).partition(b'"sequence_number":0')
        between, _, after = rest.partition(rb'"\u0000"')
        self._delta = before + b'"sequence_number":%d' + between + b"%b" + after

    def begin(self) -> bytes:
        """The first event, which is there before the log."""
        if self._after >= 0:
            return b""
        return _event("response.created", 0, {"response": self._shown.object(self._shown.first_status)})

    def render(self, part: LogSlice) -> bytes:
        """The events of `part`, ready to be one write; empty where the client has them already."""
        pieces: list[bytes] = []
        if not self._number and has_item(len(part.deltas), part.end):
            pieces += self._some(self._opening())
        texts, after = self._texts, self._after
        number = self._number
        for delta in part.deltas:
            number += 1
            texts.append(delta.text)
            if number > after:
                pieces.append(self._delta % (number, _encode(delta.text)))
        self._number = number
        if part.end is not None:
            pieces += self._some(self._ending(part.end))
        return b"".join(pieces)

    def render_cut(self, error: LlmactorsError) -> bytes:
        """The last event of a stream that was cut here, but goes on elsewhere.

        It stands in no log, so it has the number of the event before it: a client that goes on after it misses nothing.
        """
        return _error(max(self._number, self._after), error)

    def _some(self, events: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
        """Numbers them, and renders those that the client has not got."""
        for name, fields in events:
            self._number += 1
            if self._number > self._after:
                yield _event(name, self._number, fields)

    def _opening(self) -> Iterator[tuple[str, dict[str, Any]]]:
        shown = self._shown
        yield "response.in_progress", {"response": shown.object("in_progress")}
        yield "response.output_item.added", {"output_index": 0, "item": shown.item("in_progress", None)}
        yield "response.content_part.added", {**self._place, "part": text_part("")}

    def _ending(self, end: Terminal) -> Iterator[tuple[str, dict[str, Any]]]:
        # The number tells whether an item was begun: a failure before the first token comes right after the creation.
        text = "".join(self._texts) if self._number else None
        response = self._shown.ended(end, text)
        if isinstance(end, Failed):
            error = error_of(end)
            assert error is not None  # noqa: S101 - what else failed
            # The client's library raises this one; nobody can take what came before it for a whole answer.
            yield "error", _error_fields(error)
            yield "response.failed", {"response": response}
            return
        if text is not None:
            item = self._shown.item(item_status_at(end), text)
            yield "response.output_text.done", {**self._place, "text": text, "logprobs": []}
            yield "response.content_part.done", {**self._place, "part": text_part(text)}
            yield "response.output_item.done", {"output_index": 0, "item": item}
        yield _LAST[response["status"]], {"response": response}


def _error(number: int, error: LlmactorsError) -> bytes:
    return _event("error", number, _error_fields(error))


def _error_fields(error: LlmactorsError) -> dict[str, Any]:
    """Both as it is documented, and as OpenAI's own servers send it, which is what its libraries look for."""
    nested = error_object(error)["error"]
    return {"code": nested["code"], "message": nested["message"], "param": nested["param"], "error": nested}


def _event(name: str, number: int, fields: dict[str, Any]) -> bytes:
    payload = {"type": name, "sequence_number": number, **fields}
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(payload))
