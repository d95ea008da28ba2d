"""How many items a large body may have, and what does not count as an item."""

import json

import pytest

from llmactors.errors import InvalidRequest
from llmactors.gateway.body import MAX_ESCAPES, MAX_ITEMS, BodyReader
from llmactors.gateway.settings import GatewaySettings

BODIES = BodyReader(GatewaySettings())
MANY = "[" + "[1,2],{}," * 60_000 + "0]"
"""JSON of 120,000 lists and objects."""


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": MANY},
        {"prompt": json.dumps({"nested": json.dumps({"again": MANY[:100_000]}), "\\": '\\"[{' * 20_000})},
        {"prompt": list(range(100_000))},
        {"logit_bias": {str(token): -100 for token in range(40_000)}},
        {"messages": [{"role": "user", "content": "x"}] * 9_000},
        {"image": "data:image/png;base64,/" + "QUJD" * 2_000_000},
        {"prompt": "\n" * 500_000 + "é\\" * 30_000},
    ],
)
async def test_large_bodies_that_clients_send_are_read(fields: dict[str, object]) -> None:
    assert await BODIES.parse(json.dumps(fields)) == fields
    assert await BODIES.parse(json.dumps(fields, ensure_ascii=False, indent=1).encode()) == fields
    slashes = json.dumps(fields).replace("/", r"\/")  # as PHP writes it
    assert await BODIES.parse(slashes.encode()) == fields


@pytest.mark.parametrize("item", ["[]", "{}", '""', '"a"', '{"a":1}', r'"\\"', r'"\""', '"[", {}'])
async def test_items_are_counted_exactly(item: str) -> None:
    items = 2 if item in {'{"a":1}', '"[", {}'} else 1
    most = (MAX_ITEMS - 3) // items  # the object, its list and its field count too
    padding = " " * 20_000
    assert await BODIES.parse(f'{padding}{{"a":[{",".join([item] * most)}]}}')
    with pytest.raises(InvalidRequest, match=f"at most {MAX_ITEMS}"):
        await BODIES.parse(f'{padding}{{"a":[{",".join([item] * (most + 1))}]}}')


async def test_too_many_backslashes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=f"at most {MAX_ESCAPES}"):
        await BODIES.parse('{"a":"' + r"\n" * (MAX_ESCAPES + 1) + '"}')


async def test_lone_surrogates_of_a_text_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="not valid UTF-8"):
        await BODIES.parse('{"a":"\ud800"}')
