"""JSON schemas for the OpenAPI document: the rules of the bodies of Anthropic's API that their types cannot express."""

from llmactors.gateway.anthropic.schema import THINKING, UNSERVED
from llmactors.gateway.openai.messages import MAX_MESSAGES
from llmactors.gateway.openai.tools import MAX_TOOLS
from llmactors.gateway.route import Schema

_TEXT: Schema = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_IMAGE: Schema = {
    "type": "object",
    "description": "An image, for models that take images.",
    "properties": {
        "type": {"const": "image"},
        "source": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": "base64"},
                        "media_type": {"type": "string", "pattern": "^image/"},
                        "data": {"type": "string"},
                    },
                    "required": ["type", "media_type", "data"],
                },
                {
                    "type": "object",
                    "properties": {"type": {"const": "url"}, "url": {"type": "string", "pattern": "^https?://"}},
                    "required": ["type", "url"],
                },
            ]
        },
    },
    "required": ["type", "source"],
}
_TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT}]}
_TOOL_USE: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "tool_use"},
        "id": {"type": "string"},
        "name": {"type": "string", "minLength": 1},
        "input": {"type": "object"},
    },
    "required": ["type", "id", "name", "input"],
}
_TOOL_RESULT: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "tool_result"},
        "tool_use_id": {"type": "string"},
        "content": {"anyOf": [*_TEXTS["anyOf"], {"type": "null"}]},
    },
    "required": ["type", "tool_use_id"],
}
_THINKING: Schema = {
    "type": "object",
    "properties": {"type": {"enum": ["thinking", "redacted_thinking"]}},
    "required": ["type"],
}


def _message(roles: list[str], blocks: list[Schema]) -> Schema:
    content: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": blocks}}]}
    return {
        "type": "object",
        "properties": {"role": {"enum": roles}, "content": content},
        "required": ["role", "content"],
    }


_MESSAGES: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_MESSAGES,
    "items": {
        "anyOf": [
            _message(["user"], [_TEXT, _IMAGE, _TOOL_RESULT]),
            _message(["assistant"], [_TEXT, _TOOL_USE, _THINKING]),
            _message(["system"], [_TEXT]),
        ]
    },
}
_TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {"enum": [None, "custom"]},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"},
        "description": {"type": ["string", "null"]},
        "input_schema": {"type": ["object", "null"], "description": "The JSON schema of the arguments."},
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name"],
}
_TOOL_CHOICE: Schema = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "properties": {"type": {"enum": ["auto", "any", "none"]}},
            "required": ["type"],
        },
        {
            "type": "object",
            "properties": {"type": {"const": "tool"}, "name": {"type": "string"}},
            "required": ["type", "name"],
        },
    ]
}
_FORMAT: Schema = {
    "anyOf": [
        {"type": "null"},
        {
            "type": "object",
            "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}},
            "required": ["type", "schema"],
        },
    ]
}
PROMPT: Schema = {
    "properties": {
        "messages": _MESSAGES,
        "system": {"anyOf": [*_TEXTS["anyOf"], {"type": "null"}]},
        "tools": {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": MAX_TOOLS, "items": _TOOL}]},
        "tool_choice": _TOOL_CHOICE,
        "thinking": {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {"type": {"enum": list(THINKING)}}, "required": ["type"]},
            ]
        },
        "output_config": {
            "anyOf": [{"type": "null"}, {"type": "object", "properties": {"format": _FORMAT}}],
        },
        **{name: {"enum": list(harmless)} for name, harmless in sorted(UNSERVED.items())},
    }
}
MESSAGES: Schema = PROMPT
