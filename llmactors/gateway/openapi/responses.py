"""OpenAI's routes for responses."""

from llmactors.gateway.openai.responses.schema import UNSERVED_OF_RESPONSES, ResponseBody
from llmactors.gateway.openapi.answers import CompatibleError, ResponseObject
from llmactors.gateway.openapi.compatible import MESSAGE
from llmactors.gateway.openapi.native import ADMISSION, DEADLINE, IDEMPOTENCY_KEY, READING
from llmactors.gateway.openapi.operation import Answer, Operation, Schema, path_id, query

_EVENT: Schema = {
    "type": "object",
    "description": "One event. `data` is JSON, with its `type` and its `sequence_number`, to follow it on from.",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["event", "data"],
}
_ID = path_id("id", "The response's `id`.")

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/responses",
        name="createResponse",
        tag="openai",
        summary="Create a response, also in the background",
        body=ResponseBody,
        parameters=(DEADLINE, IDEMPOTENCY_KEY),
        answers={200: Answer(description="The response", body=ResponseObject, event=_EVENT, rated=True)},
        errors=ADMISSION,
        error_body=CompatibleError,
    ),
    Operation(
        method="get",
        path="/v1/responses/{id}",
        name="retrieveResponse",
        tag="openai",
        summary="A response as it is now, or its events from any place in them",
        parameters=(
            _ID,
            query("stream", "Whether to follow its events.", {"enum": ["true", "false"]}),
            query("starting_after", "The `sequence_number` of the last event seen.", {"type": "integer", "minimum": 0}),
        ),
        answers={200: Answer(description="The response", body=ResponseObject, event=_EVENT)},
        errors=READING,
        error_body=CompatibleError,
    ),
    Operation(
        method="post",
        path="/v1/responses/{id}/cancel",
        name="cancelResponse",
        tag="openai",
        summary="End a response now",
        parameters=(_ID,),
        answers={200: Answer(description="The response at its end", body=ResponseObject)},
        errors=READING,
        error_body=CompatibleError,
    ),
)

_INPUT: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": MESSAGE}]}
TIGHTEN = {
    "ResponseBody": {
        "properties": {
            "input": _INPUT,
            **{name: {"enum": list(harmless)} for name, harmless in sorted(UNSERVED_OF_RESPONSES.items())},
        }
    }
}
"""What the type of the body leaves to the code that reads it."""
