"""The input items of a response, made from the messages that the model got. Pure."""

from collections.abc import Iterator
from typing import Any

from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.responses.schema import Page
from llmactors.gateway.openai.responses.view import ResponseView
from llmactors.messages import ChatMessage, Image


def page_of(view: ResponseView, page: Page) -> dict[str, Any]:
    """One page of the items, as OpenAI's API has lists. Raises `InvalidParameter` for an item that is not there."""
    items = list(_items(view))
    if page.newest_first:
        items.reverse()
    if page.after is not None:
        places = [place for place, item in enumerate(items) if item["id"] == page.after]
        if not places:
            raise InvalidParameter("after", "`after`: the response has no input item with this id")
        items = items[places[0] + 1 :]
    shown = items[: page.limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > len(shown),
    }


def _items(view: ResponseView) -> Iterator[dict[str, Any]]:
    """The items in the order of the conversation, with those of the responses before this one."""
    own = view.request.id.removeprefix("req_")
    for number, message in enumerate(view.conversation):
        if message.role == "tool":
            yield {
                "id": f"fco_{own}_{number}",
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": message.content,
                "status": "completed",
            }
            continue
        if message.content or not message.tool_calls:
            yield _message(f"msg_{own}_{number}", message)
        for place, call in enumerate(message.tool_calls):
            yield {
                "id": f"fc_{own}_{number}_{place}",
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "status": "completed",
            }


def _message(item_id: str, message: ChatMessage) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": message.content}]
    if message.role == "assistant":
        parts = [{"type": "output_text", "text": message.content, "annotations": [], "logprobs": []}]
    elif message.images:
        parts = [_part(part) for part in message.parts]
    return {"id": item_id, "type": "message", "role": message.role, "status": "completed", "content": parts}


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    return {"type": "input_image", "image_url": part.url, "file_id": None, "detail": part.detail or "auto"}
