"""References in the `input` of a response to output items of stored responses. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter

MAX_REFERRED = 256
"""How many stored responses one body may refer to."""


def referred_responses(items: Sequence[Any]) -> dict[str, str]:
    """The id of a stored response for each id of an item that `items` refer to. Raises `InvalidParameter`."""
    found = {
        item_id: _response_of(item_id) for number, item in enumerate(items) if (item_id := _referred(number, item))
    }
    if len(responses := set(found.values())) > MAX_REFERRED:
        raise InvalidParameter(
            "input", f"`input` refers to items of {len(responses)} responses; at most {MAX_REFERRED} are accepted"
        )
    return found


def with_items(items: Sequence[Any], known: Mapping[str, Any]) -> list[Any]:
    """`items` with each reference replaced by its item. Raises `InvalidParameter` for an item that is not known."""
    whole: list[Any] = []
    for number, item in enumerate(items):
        item_id = _referred(number, item)
        if item_id is not None and item_id not in known:
            raise InvalidParameter(
                "input",
                f"`input[{number}]`: there is no item {clipped(item_id)}, or its response is gone; send the item",
            )
        whole.append(item if item_id is None else known[item_id])
    return whole


def _referred(number: int, item: Any) -> str | None:
    if not isinstance(item, dict) or item.get("type") != "item_reference":
        return None
    item_id = item.get("id")
    if not isinstance(item_id, str) or not item_id:
        raise InvalidParameter("input", f"`input[{number}].id` must be the id of an item")
    return item_id


def _response_of(item_id: str) -> str:
    """The id of the response with an output item: items are named after their response, as `fc_RESPONSE_NUMBER`."""
    own = item_id.partition("_")[2]
    return "resp_" + own.partition("_")[0]
