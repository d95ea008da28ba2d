"""What a gateway notes of a stream, so that the next gateway goes on with it and does not handle the request again.

A note is made when the stream has begun, and holds for the whole stream: how far the client has come is in the record
of each write. A stream whose renderer keeps more than the note says, as one that takes calls of tools apart, has no
note. Neither has a stream whose call is traced: the span of the call needs the request.
"""

from typing import Any

import attrs
import msgspec

from llmactors.access.authentication import Caller
from llmactors.access.keys.text import Credential
from llmactors.gateway.client_rules import proxied_client
from llmactors.http.exchange import Exchange
from llmactors.ledger import Follower, LogSlice
from llmactors.messages import GenerateRequest


class StreamNote(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One stream."""

    version: int
    """`VERSION`, for notes of this form."""
    request_id: str
    model: str
    credential: Credential | None
    """What the caller sent."""
    client: str | None = None
    """The address of the client, where a trusted proxy named it."""
    is_asked_here: bool = True
    """Whether the call asked for the request, and did not only follow its stream."""
    keyed: bool = False
    """Whether the call has an idempotency key."""
    created_ms: int | None = None
    max_tokens: int = 0
    top_logprobs: int | None = None
    with_usage: bool = False
    """Whether the client of a chat wants the usage."""
    shows_thinking: bool = False
    """Whether the client of a message gets the model's reasoning."""

    @property
    def request(self) -> GenerateRequest:
        """As much of the request as what renders its stream looks at."""
        return GenerateRequest(
            id=self.request_id,
            model=self.model,
            prompt="",
            created_ms=self.created_ms,
            max_tokens=self.max_tokens,
            top_logprobs=self.top_logprobs,
        )


VERSION = 1
_decode = msgspec.msgpack.Decoder(StreamNote).decode


@attrs.frozen
class BegunStream:
    """A stream that goes on by its note."""

    note: StreamNote
    had: LogSlice
    """The part of the log that the client has."""
    follower: Follower
    """Stands behind that part."""

    @property
    def telling(self) -> LogSlice:
        """The tokens that a renderer must see of those that the client has, so that it is in the state of the one that
        rendered them: up to the first text. If a token behind has more than its text, all.
        """
        deltas = self.had.deltas
        count = next((number for number, delta in enumerate(deltas, 1) if delta.text), len(deltas))
        is_plain = all(delta.extra is None for delta in deltas[count:])
        return LogSlice(1, deltas[:count]) if is_plain else LogSlice(1, deltas)


def note_stream(exchange: Exchange, model: str, **about: Any) -> None:
    """Notes the stream with which the exchange is answered, and of which a part was written. `about` is as for
    `StreamNote`.
    """
    caller = exchange.caller
    if exchange.held is None or exchange.on_end is not None or not isinstance(caller, Caller):
        return
    client = proxied_client(exchange.scope)
    note = StreamNote(VERSION, exchange.request_id, model, caller.credential, client, **about)
    exchange.note_answer(msgspec.msgpack.encode(note))


def read_note(data: bytes) -> StreamNote | None:
    """The stream of a note; None for a note of another version."""
    try:
        note = _decode(data)
    except msgspec.MsgspecError:
        return None
    return note if note.version == VERSION else None
