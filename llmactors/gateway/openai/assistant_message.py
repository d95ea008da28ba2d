"""The message of an answer, from the pieces of its log: the deltas of a stream, and the whole message. Pure."""

from collections.abc import Iterable
from typing import Any

from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning


def message_delta(piece: Piece) -> dict[str, Any]:
    """What a chunk adds to the message."""
    match piece:
        case Content(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case CallBegun(index, call_id, name):
            return {"tool_calls": [{"index": index, **_call(call_id, name, "")}]}
        case CallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


def whole_message(pieces: Iterable[Piece]) -> dict[str, Any]:
    """The whole message. Its content is null if there are calls and no text."""
    texts: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        match piece:
            case Content(text):
                texts.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case CallBegun(index, call_id, name):
                calls[index] = _call(call_id, name, "")
            case CallArguments(index, text):
                calls[index]["function"]["arguments"] += text
    content = "".join(texts) if texts or not calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = list(calls.values())
    return message


def _call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
