"""Images in messages keep their order and their bytes, and what is no image is refused by its place."""

from typing import Any

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.gateway.openai.errors import InvalidParameter, error_object
from llmactors.gateway.openai.images import MAX_LINK_CHARS, image_chars
from llmactors.gateway.openai.responses.conversation import read_items
from llmactors.gateway.openai.schema import ChoiceBody, read_chat
from llmactors.messages import ChatMessage, GenerateRequest, Image

PNG = "data:image/png;base64,iVBORw0KGgo="
LINK = "https://example.com/cat.png"


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(url: object = PNG, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def chat(messages: list[dict[str, Any]]) -> ChoiceBody:
    [choice] = read_chat({"model": "m", "messages": messages}).choices(None)
    return choice


def request_of(choice: ChoiceBody) -> GenerateRequest:
    return choice.to_request("req_1", model="m", tenant="t", priority=1, weight=1.0, resume_grace_s=1)


def test_texts_and_images_keep_their_order() -> None:
    parts = user(image(), text("a"), text("b"), image(LINK, detail="low"), image(), text("é"))
    [message] = chat(parts).messages
    assert message.content == "a\nbé"
    assert list(message.parts) == [Image(PNG, 0), "a\nb", Image(LINK, 3, "low"), Image(PNG, 3), "é"]


def test_message_without_images_has_its_text_as_one_part() -> None:
    assert list(ChatMessage("user", "a").parts) == ["a"]
    assert not list(ChatMessage("user", "").parts)


def test_responses_take_images_as_input_items() -> None:
    content = [{"type": "input_image", "image_url": LINK, "detail": "high"}, {"type": "input_text", "text": "a"}]
    [message] = read_items([{"role": "user", "content": content}])
    assert list(message.parts) == [Image(LINK, 0, "high"), "a"]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "image_url"}, "needs the URL"),
        ({"type": "input_image", "file_id": "file_1"}, "file ids are not served"),
        (image(5), "needs the URL"),
        (image("x"), "must have a URL like"),
        (image("ftp://example.com/a.png"), "must have a URL like"),
        (image("file:///etc/passwd"), "must have a URL like"),
        (image("data:text/html;base64,AAAA"), "must have a URL like"),
        (image("data:image/png,AAAA"), "must have a URL like"),
        (image(PNG + "é"), "must have a URL like"),
        (image("https://" + "a" * MAX_LINK_CHARS), "at most 8192"),
        (image(detail="most"), "`messages[0].content[1].detail`"),
        ({"type": "input_audio", "input_audio": {}}, "only texts and images are served"),
    ],
)
def test_part_that_is_no_image_is_refused_by_its_place(part: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        chat(user(text("hi"), part))
    body = error_object(refused.value)["error"]
    assert says in body["message"]
    assert "`messages[0].content[1]" in body["message"]
    assert body["param"] == "messages"


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_only_users_may_send_images(role: str) -> None:
    with pytest.raises(InvalidParameter, match="only messages of the role user"):
        chat([{"role": role, "content": [image()]}])


@pytest.mark.parametrize(
    ("honours", "parts", "says"),
    [
        ((), (text("a"), image(), image(LINK)), "`messages[1].content[1]` is an image, and this model takes no images"),
        (("images",), (text("a"), image(), image(LINK)), "`messages[1].content[2]` has the link of an image"),
        (("images",), (text("a"), image()), None),
        (("images", "image_links"), (text("a"), image(), image(LINK)), None),
    ],
)
def test_refusal_names_the_place_of_the_image(
    honours: tuple[str, ...], parts: tuple[dict[str, Any], ...], says: str | None
) -> None:
    body = read_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}, *user(*parts)]})
    capabilities = Capabilities(1, 100, Takeover.EXACT, honours=frozenset(honours))
    refusal = capabilities.refusal(request_of(body.choices(None)[0]), body.field_names)
    assert (refusal is None) == (says is None)
    if refusal is not None:
        assert (says or "") in refusal.message
        assert error_object(refusal)["error"]["param"] == "messages"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": 3, "input": "x"},
        {"messages": [3, {"content": 3}, {"content": [3, {"type": []}, {"type": "image_url"}, image(3)]}]},
    ],
)
def test_body_of_any_shape_can_be_asked_for_its_images(fields: dict[str, Any]) -> None:
    assert image_chars(fields) == 0
    assert image_chars(fields | {"messages": user(image(), image())}) == 2 * len(PNG)
