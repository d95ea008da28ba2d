"""What the ledger keeps of a response, beside its request and its log: the request's `note`. Pure."""

from typing import Self

import attrs
import msgspec

from llmactors.messages import GenerateRequest

# Sorted, so that the same body gives the same note, however its metadata is ordered.
_encode = msgspec.json.Encoder(order="sorted").encode

_FRONT = "responses:"
"""What a note of this front begins with."""


@attrs.frozen(kw_only=True)
class StoredResponse:
    """What the client said that is shown again and changes nothing in what is generated."""

    background: bool = False
    store: bool = True
    instructions: bool = False
    """The request's first message is what the client gave as `instructions`."""
    max_output_tokens: int | None = None
    """As the client gave it."""
    metadata: dict[str, str] = attrs.field(factory=dict)

    @property
    def note(self) -> str:
        return _FRONT + _encode(self).decode()

    @classmethod
    def of(cls, request: GenerateRequest) -> Self | None:
        """None where the request is no response."""
        front, begin, kept = request.note.partition(_FRONT)
        return msgspec.json.decode(kept, type=cls) if begin and not front else None
