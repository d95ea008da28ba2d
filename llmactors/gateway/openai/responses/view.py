"""A response as its clients see it, made from its request and its log alone. Pure."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import attrs

from llmactors.errors import ClientError
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.render import error_of
from llmactors.gateway.openai.responses.output import fold_items, needs_items
from llmactors.gateway.openai.responses.stored import StoredResponse
from llmactors.ledger import LogSlice
from llmactors.messages import (
    ChatMessage,
    Failed,
    Finished,
    GenerateRequest,
    Terminal,
    ToolCall,
    Usage,
)

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

_STATUS: dict[str, Status] = {"stop": "completed", "length": "incomplete", "cancelled": "cancelled"}
_UNSET_OF_TOOL: dict[str, Any] = {"description": None, "parameters": None, "strict": None}
"""The fields that a response shows of every tool, also where the client left them out."""
_PREFIX = "resp_"


def response_id(request_id: str) -> str:
    """The id of the response that a request makes."""
    return _PREFIX + request_id.removeprefix("req_")


def request_id(name: str) -> str | None:
    """The id of the request that makes a response; None if `name` is not the id of a response."""
    return "req_" + name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None


def status_at(end: Terminal) -> Status:
    """The last status of a response."""
    return "failed" if isinstance(end, Failed) else _STATUS[end.reason]


@attrs.frozen
class ResponseView:
    """One response. The methods take the response's log."""

    request: GenerateRequest
    stored: StoredResponse

    @classmethod
    def of(cls, request: GenerateRequest) -> Self | None:
        """The view of a request; None if the request is no response."""
        stored = StoredResponse.of(request)
        return None if stored is None else cls(request, stored)

    @property
    def id(self) -> str:
        return response_id(self.request.id)

    @property
    def item_id(self) -> str:
        """The id of the response's one output item."""
        return "msg_" + self.request.id.removeprefix("req_")

    @property
    def first_status(self) -> Status:
        """The status of a new response."""
        return "queued" if self.stored.background else "in_progress"

    @property
    def conversation(self) -> tuple[ChatMessage, ...]:
        """The messages that the model got, without the client's `instructions`."""
        return self.request.messages[1:] if self.stored.instructions else self.request.messages

    def continued(self, log: LogSlice) -> tuple[ChatMessage, ...]:
        """The messages before the input of a response that continues this one. Raises `InvalidParameter`."""
        if not isinstance(log.end, Finished) or log.end.reason == "cancelled":
            state = "has not ended" if log.end is None else "was not completed"
            raise InvalidParameter("previous_response_id", f"`previous_response_id`: the response {self.id} {state}")
        items = self.output(log)
        texts = [part["text"] for item in items if item["type"] == "message" for part in item["content"]]
        calls = [item for item in items if item["type"] == "function_call"]
        made = tuple(ToolCall(call["call_id"], call["name"], call["arguments"]) for call in calls)
        return *self.conversation, ChatMessage("assistant", "".join(texts), made)

    def now(self, state: str, log: LogSlice) -> dict[str, Any]:
        """The response now, from the state of its request and the whole log so far."""
        output = self.output(log)
        if log.end is not None:
            return self.ended(log.end, output, model=answering_model(self.request, log.deltas))
        status: Status = "queued" if state == "queued" and not log.deltas else "in_progress"
        return self.object(status, output, model=answering_model(self.request, log.deltas))

    def output(self, log: LogSlice) -> list[dict[str, Any]]:
        """The output items of the whole log so far."""
        if not has_item(len(log.deltas), log.end):
            return []
        status = "in_progress" if log.end is None else item_status_at(log.end)
        if needs_items(self.request):
            return fold_items(self.request, log.deltas, status, is_over=log.end is not None).shown(status)
        return [self.item(status, "".join(delta.text for delta in log.deltas))]

    def ended(self, end: Terminal, output: list[dict[str, Any]], *, model: str) -> dict[str, Any]:
        """The response at its end, with the name of the model that answered."""
        error = error_of(end) if isinstance(end, Failed) else None
        response = self.object(status_at(end), output, model=model)
        if error is not None:
            code = "invalid_prompt" if isinstance(error, ClientError) else "server_error"
            response["error"] = {"code": code, "message": error.message, "type": error.code.lower()}
        elif isinstance(end, Finished) and end.reason != "cancelled":
            response["usage"] = _usage(end.usage)
        if response["status"] == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        return response

    def object(self, status: Status, output: Sequence[dict[str, Any]] = (), *, model: str = "") -> dict[str, Any]:
        """The response with this status and these output items.

        `model` is the name of the model that answers; empty before the first token.
        """
        request, stored = self.request, self.stored
        asked = stored.repeated
        return {
            "id": self.id,
            "object": "response",
            "created_at": (request.created_ms or 0) // 1000,
            "completed_at": None,
            "conversation": None,
            "status": status,
            "background": stored.background,
            "error": None,
            "frequency_penalty": request.frequency_penalty,
            "incomplete_details": None,
            "instructions": request.messages[0].content if stored.instructions else None,
            "max_output_tokens": stored.max_output_tokens,
            "max_tool_calls": None,
            "metadata": stored.metadata,
            "model": model or request.model,
            "output": list(output),
            "parallel_tool_calls": asked.get("parallel_tool_calls", True),
            "presence_penalty": request.presence_penalty,
            "prompt": None,
            "previous_response_id": stored.previous,
            "prompt_cache_key": None,
            "prompt_cache_retention": None,
            "reasoning": {"effort": request.reasoning_effort or None, "summary": None},
            "safety_identifier": None,
            "service_tier": "default",
            "store": stored.store,
            "temperature": request.temperature,
            "text": {"format": {"type": "text"}} | asked.get("text", {}),
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": [{**_UNSET_OF_TOOL, **tool} for tool in asked.get("tools", ())],
            "top_logprobs": request.top_logprobs or 0,
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": None,
            "user": None,
        }

    def item(self, status: str, text: str | None) -> dict[str, Any]:
        """The one item of a response without tools and reasoning. Without a text, the item has no content."""
        content = [] if text is None else [text_part(text)]
        return {"id": self.item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str) -> dict[str, Any]:
    """The one part of an output item's content."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item_status_at(end: Terminal) -> str:
    """The last status of an output item."""
    return _item_status(status_at(end))


def has_item(tokens: int, end: Terminal | None) -> bool:
    """Whether the response has an output item: if its log has tokens, or if the answer is complete."""
    return tokens > 0 or (isinstance(end, Finished) and end.reason != "cancelled")


def _item_status(status: Status) -> str:
    if status in {"completed", "in_progress"}:
        return status
    return "in_progress" if status == "queued" else "incomplete"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }
