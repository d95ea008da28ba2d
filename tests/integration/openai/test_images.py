"""Images reach the models that take images, and no others; large bodies are for images alone."""

from typing import Any

import httpx
import pytest

from llmactors.backends.build import serve_model
from llmactors.backends.mock.oracle import mock_text
from llmactors.http.byte_budget import ByteBudget
from llmactors.messages import ChatMessage, GenerateRequest, Image
from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = pytest.mark.integration

PNG = "data:image/png;base64,iVBORw0KGgo="
LARGE = "data:image/png;base64,".ljust(3_000_000, "A")
LINK = "https://example.com/cat.png"
SMALL_BYTES = 1_000_000
MOST_BYTES = 4_000_000


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def body(model: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": list(parts)}], "max_tokens": 4, "seed": 1}


async def chat(node: LocalNode, model: str, *parts: dict[str, Any]) -> httpx.Response:
    return await node.client.post("/v1/chat/completions", json=body(model, *parts))


def answer_to(content: str, *images: Image) -> str:
    message = ChatMessage("user", content, images=images)
    return mock_text(GenerateRequest("r", "m", "", max_tokens=4, seed=1, messages=(message,)))


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def refusal_of(answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


async def test_upstream_gets_texts_and_images_in_their_order() -> None:
    """The oracle of the upstream's mock shows that each image came whole, and to its place."""
    async with local_node(mock_model("images=true"), max_image_body_bytes=MOST_BYTES) as far:
        models = [
            serve_model(f"{images}=openai:{far.url}/v1,model=mock,images={images}")
            for images in ("none", "data", "links")
        ]
        async with local_node(*models, max_body_bytes=SMALL_BYTES, max_image_body_bytes=MOST_BYTES) as node:
            parts = (image(PNG), text("what"), image(LARGE))
            expected = answer_to("what", Image(PNG, 0), Image(LARGE, 4))
            assert text_of(await chat(node, "data", *parts)) == expected
            assert text_of(await chat(node, "links", *parts)) == expected
            assert answer_to("what", Image(LARGE, 0), Image(PNG, 4)) != expected
            linked = text_of(await chat(node, "links", text("what"), image(LINK)))
            assert linked == answer_to("what", Image(LINK, 4))

            refused = await chat(node, "none", text("what"), image(PNG))
            assert "`messages[0].content[1]` is an image, and this model takes no images" in refusal_of(refused)
            refused = await chat(node, "data", text("what"), image(LINK))
            assert "`messages[0].content[1]` has the link of an image" in refusal_of(refused)


async def test_response_continues_a_conversation_with_images() -> None:
    async with local_node(mock_model("images=true")) as node:
        parts = [{"type": "input_text", "text": "what"}, {"type": "input_image", "image_url": PNG, "detail": "low"}]
        asked = {"model": "mock", "max_output_tokens": 4, "seed": 1}
        first = await node.client.post("/v1/responses", json=asked | {"input": [{"role": "user", "content": parts}]})
        assert first.status_code == 200, first.text
        said = first.json()["output"][0]["content"][0]["text"]
        assert said == answer_to("what", Image(PNG, 4, "low"))
        second = await node.client.post(
            "/v1/responses", json=asked | {"input": "and", "previous_response_id": first.json()["id"]}
        )
        messages = (
            ChatMessage("user", "what", images=(Image(PNG, 4, "low"),)),
            ChatMessage("assistant", said),
            ChatMessage("user", "and"),
        )
        assert second.json()["output"][0]["content"][0]["text"] == mock_text(
            GenerateRequest("r", "m", "", max_tokens=4, seed=1, messages=messages)
        )
        items = (await node.client.get(f"/v1/responses/{first.json()['id']}/input_items")).json()["data"]
        assert items[0]["content"] == [parts[0], parts[1] | {"file_id": None}]


async def test_images_of_anthropics_clients_reach_the_model() -> None:
    models = (mock_model("images=true", name="sees"), mock_model(name="blind"))
    data = LARGE.partition(",")[2]
    blocks = [text("what"), {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]
    asked = {"max_tokens": 4, "messages": [{"role": "user", "content": blocks}]}
    async with local_node(*models, max_body_bytes=SMALL_BYTES, max_image_body_bytes=MOST_BYTES) as node:
        answer = await node.client.post("/v1/messages", json=asked | {"model": "sees"})
        message = ChatMessage("user", "what", images=(Image(LARGE, 4),))
        expected = mock_text(GenerateRequest("r", "m", "", max_tokens=4, messages=(message,)))
        assert answer.json()["content"][0]["text"] == expected
        refused = await node.client.post("/v1/messages", json=asked | {"model": "blind"})
        assert "`messages[0].content[1]` is an image" in refusal_of(refused)


async def test_only_images_may_make_a_body_large() -> None:
    models = (mock_model("images=true", name="sees"), mock_model(name="blind"))
    async with local_node(*models, max_body_bytes=SMALL_BYTES, max_image_body_bytes=MOST_BYTES) as node:
        assert "takes no images" in refusal_of(await chat(node, "blind", text("what"), image(LARGE)))
        assert "bytes without its images" in refusal_of(await chat(node, "sees", text("x" * SMALL_BYTES)), 413)
        refused = await chat(node, "sees", image(LARGE), image(LARGE))
        assert f"at most {MOST_BYTES}" in refusal_of(refused, 413)
        raw = await node.client.post("/v1/completions", json={"model": "sees", "prompt": "x" * SMALL_BYTES})
        assert f"at most {SMALL_BYTES}" in refusal_of(raw, 413)
    async with local_node(mock_model(name="blind"), max_body_bytes=SMALL_BYTES) as node:
        assert f"at most {SMALL_BYTES}" in refusal_of(await chat(node, "blind", image(LARGE)), 413)


async def test_large_bodies_leave_room_for_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = ByteBudget(2 * len(LARGE))
    monkeypatch.setattr("llmactors.http.server.ByteBudget", lambda: budget)
    async with local_node(mock_model("images=true"), max_body_bytes=SMALL_BYTES) as node:
        assert budget.take(SMALL_BYTES // 2)
        refusal_of(await chat(node, "mock", image(LARGE)), 503)
        assert text_of(await chat(node, "mock", text("hi"))) == answer_to("hi")
        assert budget.held == SMALL_BYTES // 2
