"""Images in the content parts of messages. Pure.

An image stays the text that the client sent: nothing here decodes or fetches an image. The model's backend gets the
image as it came, and the backend judges whether the image can be read.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmactors.gateway.body import clipped
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.messages import Image

IMAGE_KINDS = frozenset({"image_url", "input_image"})
"""The types of content parts that are images: in chats, and in the input of responses."""
MAX_LINK_CHARS = 8192
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,64};base64,", re.IGNORECASE)
_LINK = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_DETAILS = ("auto", "low", "high")


def read_image(param: str, where: str, part: Mapping[str, Any], at: int) -> Image:
    """The image of the content part at `where` in the field `param`, behind `at` characters of text.

    Raises `InvalidParameter`.
    """
    named = part.get("image_url")
    inner = named if isinstance(named, dict) else part
    url = inner.get("url") if isinstance(named, dict) else named
    if not isinstance(url, str):
        raise InvalidParameter(param, f"`{where}` needs the URL of an image in `image_url`; file ids are not served")
    if not url.isascii() or not (_DATA.match(url) or _LINK.match(url)):
        raise InvalidParameter(
            param, f"`{where}` must have a URL like data:image/png;base64,… or https://…, not {clipped(url)}"
        )
    if len(url) > MAX_LINK_CHARS and _LINK.match(url):
        raise InvalidParameter(
            param, f"`{where}` has a link of {len(url)} characters; at most {MAX_LINK_CHARS} are accepted"
        )
    detail = inner.get("detail")
    if detail is not None and detail not in _DETAILS:
        raise InvalidParameter(param, f"`{where}.detail` must be one of {', '.join(_DETAILS)}, not {clipped(detail)}")
    return Image(url, at, "" if detail in {None, "auto"} else detail)


def image_names(param: str, messages: object) -> dict[str, str]:
    """The places of the first image and of the first link in the field `param`, for refusals."""
    names: dict[str, str] = {}
    for place, _, is_link in _images(param, messages):
        names.setdefault("images", place)
        if is_link:
            names.setdefault("image_links", place)
    return names


def image_chars(fields: Mapping[str, Any]) -> int:
    """The length of all images in the fields of a body that was not checked yet."""
    return sum(len(text) for name in ("messages", "input") for _, text, _ in _images(name, fields.get(name)))


def _images(param: str, messages: object) -> Iterator[tuple[str, str, bool]]:
    """The place and the text of each image, and whether the text is a link."""
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            found = _text_of(part) if isinstance(part, dict) else None
            if found is not None:
                yield f"{param}[{number}].content[{place}]", *found


def _text_of(part: Mapping[str, Any]) -> tuple[str, bool] | None:
    """The text of an image, and whether the text is a link; None for a part that is no image."""
    kind, named = part.get("type"), part.get("image_url")
    if kind == "image":  # in Anthropic's API
        source = part.get("source")
        named = source if isinstance(source, dict) else {}
        if isinstance(data := named.get("data"), str):
            return data, False
    elif not isinstance(kind, str) or kind not in IMAGE_KINDS:
        return None
    url = named.get("url") if isinstance(named, dict) else named
    return (url, not url.startswith("data:")) if isinstance(url, str) else None


class PartCollector:
    """Collects the texts and the images of one message in their order.

    A line break separates two texts that have no image between them.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._images: list[Image] = []
        self._follows_text = False
        self.length = 0
        """The number of characters of the texts so far."""

    def __repr__(self) -> str:
        return f"<PartCollector {self.length} characters, {len(self._images)} images>"

    def __bool__(self) -> bool:
        """Whether the message has any part."""
        return bool(self._texts or self._images)

    def add_text(self, text: str) -> None:
        """Adds a text behind the parts so far."""
        if self._follows_text:
            text = "\n" + text
        self._texts.append(text)
        self.length += len(text)
        self._follows_text = True

    def add_image(self, image: Image) -> None:
        """Adds an image behind the parts so far. The image was read with `length` as its place."""
        self._images.append(image)
        self._follows_text = False

    @property
    def content(self) -> str:
        """The whole text."""
        return "".join(self._texts)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images, each with its place in the text."""
        return tuple(self._images)
