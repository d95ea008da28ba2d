"""Only images of known formats and of a bounded size reach llama.cpp."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.llama.images import image_size, read_images
from llmactors.errors import InvalidRequest
from llmactors.messages import Image

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + bytes(9)
HEADS = {
    "png": PNG,
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20),
    "bmp": b"BM" + bytes(16) + struct.pack("<ii", 640, -480) + bytes(4),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10" + bytes(14) + b"\xff\xff\xc2\0\x11\x08" + struct.pack(">HH", 480, 640),
}


def image(data: bytes) -> Image:
    return Image("data:image/png;base64," + base64.b64encode(data).decode(), 0)


@pytest.mark.parametrize("kind", HEADS)
def test_size_is_read_from_the_head(kind: str) -> None:
    assert image_size(HEADS[kind]) == (640, 480)
    assert read_images([image(HEADS[kind])]) == (base64.b64encode(HEADS[kind]).decode(),)


@given(st.sampled_from([b"", *(head[:8] for head in HEADS.values())]), st.binary(max_size=64))
def test_any_bytes_are_an_image_or_none(head: bytes, rest: bytes) -> None:
    size = image_size(head + rest)
    assert size is None or min(size) >= 0


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Image("data:image/png;base64,A", 0), "image 2 is not valid base64"),
        (Image("data:image/png;base64,", 0), "image 2 is no PNG"),
        (image(b"RIFF....WAVEfmt " + bytes(20)), "image 2 is no PNG"),
        (image(PNG[:16] + struct.pack(">II", 2**15, 2**15) + bytes(9)), "image 2 has 32768 x 32768 pixels"),
        (image(PNG[:16] + bytes(17)), "image 2 has 0 x 0 pixels"),
    ],
)
def test_other_images_are_refused_by_their_number(found: Image, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        read_images([image(PNG), found])
