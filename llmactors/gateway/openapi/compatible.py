"""OpenAI's routes."""

from llmactors.errors import NotFound
from llmactors.gateway.openai.schema import MAX_CHOICES, ROLES, UNSERVED, ChatBody, CompletionBody
from llmactors.gateway.openapi.answers import ChatCompletion, CompatibleError, Completion, Model, ModelList
from llmactors.gateway.openapi.native import ADMISSION, DEADLINE, IDEMPOTENCY_KEY, KEYED
from llmactors.gateway.openapi.operation import Answer, Operation, Schema, path_id

_EVENT: Schema = {
    "type": "object",
    "description": "One chunk as JSON in `data`, or `[DONE]` at the end of an answer that is whole.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        name="chatCompletions",
        tag="openai",
        summary="Continue a conversation",
        body=ChatBody,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        answers={200: Answer(description="The answer", body=ChatCompletion, event=_EVENT, rated=True)},
        errors=ADMISSION,
        error_body=CompatibleError,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        name="completions",
        tag="openai",
        summary="Continue a text, or token ids",
        body=CompletionBody,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        answers={200: Answer(description="The answer", body=Completion, event=_EVENT, rated=True)},
        errors=ADMISSION,
        error_body=CompatibleError,
    ),
    Operation(
        method="get",
        path="/v1/models",
        name="models",
        tag="openai",
        summary="All models that can be asked",
        answers={200: Answer(description="The models, the default one first", body=ModelList)},
        errors=KEYED,
        error_body=CompatibleError,
    ),
    Operation(
        method="get",
        path="/v1/models/{model}",
        name="model",
        tag="openai",
        summary="One model",
        parameters=(path_id("model", "Its name."),),
        answers={200: Answer(description="The model", body=Model)},
        errors=(*KEYED, NotFound),
        error_body=CompatibleError,
    ),
)


_TEXT: Schema = {"type": "string", "minLength": 1}
_IDS: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "minItems": 1,
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
MESSAGE: Schema = {
    "type": "object",
    "properties": {
        "role": {"enum": list(ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]},
    },
    "required": ["role", "content"],
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "items": MESSAGE}
_REFUSED: Schema = {name: {"enum": list(harmless)} for name, harmless in sorted(UNSERVED.items())}
"""What is refused by its name, as the values of it that are not."""

TIGHTEN = {
    "ChatBody": {"properties": {"messages": _MESSAGES, **_REFUSED}},
    "CompletionBody": {"properties": {"prompt": _PROMPT, **_REFUSED}},
}
"""What the types of the bodies leave to the code that reads them."""
