"""What the ledger stores of a response beside its request and its log: `GenerateRequest.metadata`. Pure."""

from typing import Any, Self

import attrs
import msgspec

from llmactors.errors import InvalidRequest
from llmactors.messages import GenerateRequest

# Sorted, so that two bodies that differ only in the order of their metadata are the same request.
_encode = msgspec.json.Encoder(order="sorted").encode

_PREFIX = "responses:"
"""What the metadata begins with if the request is a response."""


@attrs.frozen(kw_only=True)
class StoredResponse:
    """The fields of the body that a response shows again, and that do not change its text."""

    background: bool = False
    store: bool = True
    instructions: bool = False
    """Whether the request's first message is the client's `instructions`."""
    previous: str | None = None
    """The id of the response that this response continues."""
    max_output_tokens: int | None = None
    """The value that the client sent."""
    repeated: dict[str, Any] = attrs.field(factory=dict)
    """Those of `tools`, `tool_choice`, `parallel_tool_calls` and `text` that the client sent."""
    metadata: dict[str, str] = attrs.field(factory=dict)
    """The client's `metadata`."""

    @property
    def encoded(self) -> str:
        """The value of `GenerateRequest.metadata` that holds all of these fields.

        Raises `InvalidRequest` for fields that are nested too deeply.
        """
        try:
            return _PREFIX + _encode(self).decode()
        except RecursionError:
            raise InvalidRequest("`tools` or `text` is nested too deeply") from None

    @classmethod
    def of(cls, request: GenerateRequest) -> Self | None:
        """The stored fields of a request; None if the request is no response."""
        before, prefix, stored = request.metadata.partition(_PREFIX)
        return msgspec.json.decode(stored, type=cls) if prefix and not before else None
