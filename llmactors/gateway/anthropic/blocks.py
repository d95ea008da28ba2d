"""The content blocks of a whole answer, and what they have in common with those of a stream. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from llmactors.errors import BackendFailed
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.anthropic.stop_reason import stop_reason, stop_string_in
from llmactors.ledger import LogSlice
from llmactors.messages import Finished, GenerateRequest, TokenDelta, Usage
from llmactors.tool_calls.fold import fold_answer
from llmactors.tool_calls.pieces import CallArguments, CallBegun, Content, Piece, Reasoning


def message_id(request: GenerateRequest) -> str:
    """The id of the message, which contains the id of the request's stream."""
    return "msg_" + request.id.removeprefix("req_")


def message_head(request: GenerateRequest, deltas: Sequence[TokenDelta]) -> dict[str, Any]:
    """The fields of a message that do not depend on the answer beyond the first of its tokens."""
    return {
        "id": message_id(request),
        "type": "message",
        "role": "assistant",
        "model": answering_model(request, deltas),
        "container": None,
        "stop_details": None,
    }


def text_block(text: str) -> dict[str, Any]:
    """A block of text for the user."""
    return {"type": "text", "text": text, "citations": None}


def thinking_block(text: str) -> dict[str, Any]:
    """A block of reasoning. The signature is empty: nobody checks whether the text comes back unchanged."""
    return {"type": "thinking", "thinking": text, "signature": ""}


def tool_use_block(piece: CallBegun) -> dict[str, Any]:
    """A call of a tool whose arguments have not come."""
    call_id = "toolu_" + piece.id.removeprefix("call_")
    return {"type": "tool_use", "id": call_id, "name": piece.name, "input": {}, "caller": {"type": "direct"}}


def usage_object(usage: Usage) -> dict[str, Any]:
    """The numbers of tokens. `input_tokens` are those that came from no cache. llmactors has no tools of its own."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": None,
        "inference_geo": None,
        "output_tokens_details": None,
        "server_tool_use": None,
        "service_tier": "standard",
    }


def whole_answer(request: GenerateRequest, log: LogSlice, end: Finished, *, shows_thinking: bool) -> dict[str, Any]:
    """The message of a complete log. Raises `BackendFailed` where the arguments of a call are no JSON object."""
    pieces = fold_answer(request, log.deltas)
    stop = stop_string_in(log.deltas)
    calls = sum(isinstance(piece, CallBegun) for piece in pieces)
    return {
        **message_head(request, log.deltas),
        "content": _blocks(pieces, is_cut=end.reason == "length", shows_thinking=shows_thinking),
        "stop_reason": stop_reason(request, end, stop=stop, calls=calls),
        "stop_sequence": stop or None,
        "usage": usage_object(end.usage),
    }


def _blocks(pieces: Sequence[Piece], *, is_cut: bool, shows_thinking: bool) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    arguments: dict[int, list[str]] = {}
    begun: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        match piece:
            case Content(text):
                _extend(blocks, "text", text_block(text))
            case Reasoning(text):
                if shows_thinking:
                    _extend(blocks, "thinking", thinking_block(text))
            case CallBegun(index):
                begun[index] = tool_use_block(piece)
                arguments[index] = []
                blocks.append(begun[index])
            case CallArguments(index, text):
                arguments[index].append(text)
    for index, texts in arguments.items():
        found = _object("".join(texts))
        if found is not None:
            begun[index]["input"] = found
        elif is_cut:
            # A program would run the call with a part of its arguments.
            blocks = [block for block in blocks if block is not begun[index]]
        else:
            raise BackendFailed(f"the model called {begun[index]['name']} with arguments that are no JSON object")
    return blocks


def _extend(blocks: list[dict[str, Any]], kind: str, block: dict[str, Any]) -> None:
    """Adds a text to the last block if that is of the same kind, else adds a block."""
    if blocks and blocks[-1]["type"] == kind:
        blocks[-1][kind] += block[kind]
    elif block[kind]:
        blocks.append(block)


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object; None for anything else. A tool without arguments may be called without any text."""
    if not text.strip():
        return {}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
