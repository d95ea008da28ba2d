"""JSON schemas for the OpenAPI document: the rules of the OpenAI routes' bodies that the bodies' types cannot
express.
"""

from llmactors.gateway.openai.inputs_body import MAX_INPUTS
from llmactors.gateway.openai.messages import MAX_MESSAGES, ROLES
from llmactors.gateway.openai.prompts import MAX_PROMPT_IDS
from llmactors.gateway.openai.schema import MAX_CHOICES
from llmactors.gateway.openai.tools import MAX_TOOLS
from llmactors.gateway.openai.unserved import (
    EXTENSIONS,
    UNSERVED,
    UNSERVED_OF_COMPLETIONS,
    UNSERVED_OF_RESPONSES,
    Unserved,
)
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
_INPUTS: Schema = {
    "anyOf": [
        _TEXT,
        _IDS,
        {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_INPUTS},
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MAX_INPUTS},
    ]
}
_URL: Schema = {"type": "string", "pattern": "^(data:image/|https?://)"}
_DETAIL: Schema = {"enum": [None, "auto", "low", "high"]}
_PART: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        },
        {
            "type": "object",
            "description": "An image in a user's message, for models that take images.",
            "properties": {
                "type": {"const": "image_url"},
                "image_url": {"type": "object", "properties": {"url": _URL, "detail": _DETAIL}, "required": ["url"]},
            },
            "required": ["type", "image_url"],
        },
        {
            "type": "object",
            "description": "An image in a user's message, in the form of responses.",
            "properties": {"type": {"const": "input_image"}, "image_url": _URL, "detail": _DETAIL},
            "required": ["type", "image_url"],
        },
    ]
}
_CALL: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1}, "arguments": {"type": ["string", "object"]}},
            "required": ["name", "arguments"],
        },
    },
    "required": ["function"],
}
_MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": {"enum": list(ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]},
        "tool_calls": {"anyOf": [{"type": "array", "items": _CALL}, {"type": "null"}]},
        "tool_call_id": {"type": ["string", "null"]},
    },
    "required": ["role"],
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES, "items": _MESSAGE}
_FUNCTION: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,128}$"},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"], "description": "The JSON schema of the arguments."},
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name"],
}
_TOOLS: Schema = {
    "type": ["array", "null"],
    "maxItems": MAX_TOOLS,
    "items": {
        "type": "object",
        "properties": {"type": {"const": "function"}, "function": _FUNCTION},
        "required": ["type", "function"],
    },
}
_NAME: Schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_NAMED_TOOL: Schema = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "function": _NAME},
    "required": ["type", "function"],
}
_ALLOWED_TOOL: Schema = {"type": "object", "properties": {"function": _NAME}, "required": ["function"]}
_ALLOWED_TOOLS: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "allowed_tools"},
        "allowed_tools": {
            "type": "object",
            "properties": {
                "mode": {"enum": ["auto", "required"]},
                "tools": {"type": "array", "minItems": 1, "items": _ALLOWED_TOOL},
            },
            "required": ["mode", "tools"],
        },
    },
    "required": ["type", "allowed_tools"],
}
_TOOL_CHOICE: Schema = {"anyOf": [{"enum": [None, "none", "auto", "required"]}, _NAMED_TOOL, _ALLOWED_TOOLS]}
_JSON_SCHEMA_FORMAT: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "json_schema"},
        "json_schema": {
            "type": "object",
            "properties": {"schema": {"type": "object"}, "strict": {"type": ["boolean", "null"]}},
            "required": ["schema"],
        },
    },
    "required": ["type", "json_schema"],
}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_SCHEMA_OR_TEXT: Schema = {"type": ["object", "string", "boolean", "array", "null"]}
_FORMATS: Schema = {
    "response_format": {
        "anyOf": [
            {"type": "null"},
            {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}, "required": ["type"]},
            _JSON_SCHEMA_FORMAT,
        ]
    },
    "structured_outputs": {"type": ["object", "array", "string", "null"]},
    "guided_json": _SCHEMA_OR_TEXT,
    "guided_json_object": {"type": ["boolean", "null"]},
    "guided_choice": {"anyOf": [{"type": "array", "items": _TEXT}, {"enum": [None, {}, ""]}]},
    "guided_grammar": _TEXT_OR_NULL,
    "guided_regex": _TEXT_OR_NULL,
    "grammar": _TEXT_OR_NULL,
    "json_schema": _SCHEMA_OR_TEXT,
}


def _refused(unserved: Unserved) -> Schema:
    """The fields that are not served, each with the values that are accepted because they change nothing."""
    return {name: {"enum": list(harmless)} for name, harmless in sorted({**unserved, **EXTENSIONS}.items())}


_CALL_ITEM: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function_call"},
        "call_id": {"type": "string"},
        "name": _TEXT,
        "arguments": {"type": "string"},
    },
    "required": ["type", "call_id", "name", "arguments"],
}
_CALL_OUTPUT: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "function_call_output"},
        "call_id": {"type": "string"},
        "output": {"type": "string"},
    },
    "required": ["type", "call_id", "output"],
}
_REASONING: Schema = {"type": "object", "properties": {"type": {"const": "reasoning"}}, "required": ["type"]}
_ITEMS: Schema = {**_MESSAGES, "items": {"anyOf": [_MESSAGE, _CALL_ITEM, _CALL_OUTPUT, _REASONING]}}
_INPUT: Schema = {"anyOf": [{"type": "string", "minLength": 1}, _ITEMS]}
_RESPONSE_TOOLS: Schema = {
    "type": ["array", "null"],
    "maxItems": MAX_TOOLS,
    "items": {
        **_FUNCTION,
        "properties": {"type": {"const": "function"}, **_FUNCTION["properties"]},
        "required": ["type", "name"],
    },
}
_CHOSEN: Schema = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "name": {"type": "string"}},
    "required": ["type", "name"],
}
_RESPONSE_TOOL_CHOICE: Schema = {
    "anyOf": [
        {"enum": [None, "none", "auto", "required"]},
        _CHOSEN,
        {
            "type": "object",
            "properties": {
                "type": {"const": "allowed_tools"},
                "mode": {"enum": ["auto", "required"]},
                "tools": {"type": "array", "minItems": 1, "items": _CHOSEN},
            },
            "required": ["type", "mode", "tools"],
        },
    ]
}
_RESPONSE_TEXT: Schema = {
    "type": ["object", "null"],
    "properties": {
        "format": {
            "anyOf": [
                {"type": "null"},
                {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}, "required": ["type"]},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": "json_schema"},
                        "schema": {"type": "object"},
                        "strict": {"type": ["boolean", "null"]},
                    },
                    "required": ["type", "schema"],
                },
            ]
        },
        "verbosity": {"enum": [None, "medium"]},
    },
}

_DOCUMENT: Schema = {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]}

CHAT: Schema = {
    "properties": {
        "messages": _MESSAGES,
        "tools": _TOOLS,
        "tool_choice": _TOOL_CHOICE,
        **_FORMATS,
        **_refused(UNSERVED),
    }
}
COMPLETION: Schema = {"properties": {"prompt": _PROMPT, **_FORMATS, **_refused(UNSERVED_OF_COMPLETIONS)}}
EMBEDDINGS: Schema = {"properties": {"input": _INPUTS, **_refused({})}}
RERANK: Schema = {
    "properties": {
        "documents": {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": {"anyOf": [_TEXT, _DOCUMENT]}},
        **{name: values for name, values in _refused({}).items() if name != "documents"},
    }
}
RESPONSE: Schema = {
    "properties": {
        "input": _INPUT,
        "tools": _RESPONSE_TOOLS,
        "tool_choice": _RESPONSE_TOOL_CHOICE,
        "text": _RESPONSE_TEXT,
        **_refused(UNSERVED_OF_RESPONSES),
    }
}
