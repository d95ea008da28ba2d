"""The pieces that a reader makes of an answer. Pure."""

import hashlib

import attrs


@attrs.frozen
class Content:
    """Text for the user."""

    text: str


@attrs.frozen
class Reasoning:
    """Text that the model wrote while it was thinking."""

    text: str


@attrs.frozen
class CallBegun:
    """The model begins to call a tool."""

    index: int
    """The number of the call in the answer, counted from 0."""
    id: str
    name: str


@attrs.frozen
class CallArguments:
    """More text of the arguments of a call.

    All of the texts of a call together are one JSON object, unless the answer was cut.
    """

    index: int
    text: str


Piece = Content | Reasoning | CallBegun | CallArguments


def call_id(request_id: str, index: int) -> str:
    """The id of a call. The id follows from the request's id and the number of the call, so that every gateway gives
    the same id, and a repeated call with the same idempotency key too.
    """
    return "call_" + hashlib.blake2b(f"{request_id}/{index}".encode(), digest_size=12).hexdigest()
