"""JSON schemas for the OpenAPI document: the rules of the OpenAI routes' bodies that the bodies' types cannot
express.
"""

from llmactors.gateway.openai.schema import MAX_CHOICES, MAX_MESSAGES, MAX_PROMPT_IDS, ROLES
from llmactors.gateway.openai.unserved import EXTENSIONS, UNSERVED, UNSERVED_OF_RESPONSES
from llmactors.gateway.route import Schema

CHUNK_EVENT: Schema = {
    "type": "object",
    "description": "One chunk as JSON in `data`, or `[DONE]` at the end of a complete answer.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}
RESPONSE_EVENT: Schema = {
    "type": "object",
    "description": "One event. `data` is JSON with the event's `type` and its `sequence_number`.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["event", "data"],
}
_TEXT: Schema = {"type": "string", "minLength": 1}
_IDS: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "minItems": 1,
    "maxItems": MAX_PROMPT_IDS,
}
_PROMPT: Schema = {
    "anyOf": [
        _TEXT,
        _IDS,
        {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_CHOICES},
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MAX_CHOICES},
    ]
}
_PART: Schema = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": {"enum": list(ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]},
    },
    "required": ["role", "content"],
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": _MESSAGE}
_REFUSED: Schema = {name: {"enum": list(harmless)} for name, harmless in sorted({**UNSERVED, **EXTENSIONS}.items())}
"""The fields that are not served, each with the values that are accepted because they change nothing."""

_INPUT: Schema = {"anyOf": [{"type": "string", "minLength": 1}, _MESSAGES]}
_REFUSED_IN_RESPONSES: Schema = {
    name: {"enum": list(harmless)} for name, harmless in sorted({**UNSERVED_OF_RESPONSES, **EXTENSIONS}.items())
}

CHAT: Schema = {"properties": {"messages": _MESSAGES, **_REFUSED}}
COMPLETION: Schema = {"properties": {"prompt": _PROMPT, **_REFUSED}}
RESPONSE: Schema = {"properties": {"input": _INPUT, **_REFUSED_IN_RESPONSES}}
