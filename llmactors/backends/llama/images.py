"""The images of a conversation, checked before llama.cpp reads them. Pure.

llama.cpp gives a file that it cannot read to `ffprobe`, as a video, and reads the pixels of any image into memory. So
only files of four formats reach llama.cpp, and no image of more pixels than `MAX_PIXELS`.
"""

import base64
import binascii
import struct
from collections.abc import Iterable

from llmactors.errors import InvalidRequest
from llmactors.messages import Image

MAX_PIXELS = 2**25
"""The most pixels of an image. Each one takes at least three bytes of memory."""
_LONGEST_HEAD_BYTES = 26
_NO_SIZES = (0xC4, 0xC8, 0xCC)
"""The markers of JPEG among those from 0xC0 to 0xCF that do not tell the size of the image."""


def read_images(images: Iterable[Image]) -> tuple[str, ...]:
    """The base64 of each image. Raises `InvalidRequest` for an image that llama.cpp must not get."""
    return tuple(_read(number, image) for number, image in enumerate(images, start=1))


def _read(number: int, image: Image) -> str:
    _, _, text = image.url.partition(";base64,")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise InvalidRequest(f"`messages`: image {number} is not valid base64") from None
    size = image_size(data)
    if size is None:
        raise InvalidRequest(f"`messages`: image {number} is no PNG, JPEG, GIF or BMP file")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise InvalidRequest(
            f"`messages`: image {number} has {width} x {height} pixels, and this model takes 1 to {MAX_PIXELS} pixels"
        )
    return text


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, as the head of the file says; None for a file of another format."""
    if len(data) < _LONGEST_HEAD_BYTES:
        return None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", data, 6)
    elif data.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", data, 18)
    elif data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    else:
        return None
    return abs(width), abs(height)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        # A byte 0xFF may stand before each marker, as often as the writer likes.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None
