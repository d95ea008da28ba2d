"""A real llama.cpp with a tiny projector: images in prompts, takeovers behind them, and refusals."""

import base64
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import attrs
import pytest

from llmactors.backends.base import Job
from llmactors.backends.build import ServedModel
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.errors import ContextExceeded, InvalidRequest, ModelError
from llmactors.messages import ChatMessage, Constraint, GenerateRequest, Image, TokenDelta
from llmactors.testing.node import LocalNode, local_node
from tests.support.tiny_models import write_projector

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.timeout(120)]

MODEL_WIDTH = 576


def png(red: int, green: int, blue: int) -> str:
    """The `data:` URL of an image of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes((red, green, blue)) * 64) * 64)
    return url(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


RED, BLUE = png(255, 0, 0), png(0, 0, 255)


def about(*urls: str, text: str = "Describe this.") -> GenerateRequest:
    message = ChatMessage("user", text, images=tuple(Image(each, 4) for each in urls))
    return GenerateRequest("r", "m", "", messages=(message,), max_tokens=8, temperature=0)


async def answer(backend: LlamaBackend, request: GenerateRequest, *logged: TokenDelta) -> tuple[list[TokenDelta], int]:
    """The deltas behind those that are logged, and the length of the prompt."""
    outputs = [output async for output in backend.generate(Job((request.id, 1), request, logged))]
    return [delta for output in outputs for delta in output.deltas], outputs[-1].prompt_tokens


async def check_takeovers(backend: LlamaBackend) -> None:
    whole, prompt_tokens = await answer(backend, about(RED))
    other, _ = await answer(backend, about(BLUE))
    both, longer = await answer(backend, about(RED, BLUE))
    assert len({tuple(delta.token for delta in each) for each in (whole, other, both)}) == 3
    assert longer == prompt_tokens + 16
    assert await answer(backend, about(RED), *whole[:5]) == (whole[5:], prompt_tokens)
    by_chance = attrs.evolve(about(RED), temperature=0.8, ignore_eos=True)
    rest, counted = await answer(backend, by_chance, *whole[:5])
    assert (len(rest), counted) == (3, prompt_tokens)
    least = attrs.evolve(about(BLUE), min_tokens=4)
    long, counted = await answer(backend, least)
    assert len(long) >= 4
    assert counted == prompt_tokens
    assert (await answer(backend, least, *long[:2]))[0] == long[2:]


async def check_texts(backend: LlamaBackend) -> None:
    """Requests without images are served as by a model without a projector."""
    whole, prompt_tokens = await answer(backend, about())
    assert await answer(backend, about(), *whole[:5]) == (whole[5:], prompt_tokens)
    by_chance = attrs.evolve(about(text="Look<|im_end|>"), temperature=0.8, ignore_eos=True)
    assert len((await answer(backend, by_chance, *whole[:5]))[0]) == 3
    vectors, _ = await answer(backend, attrs.evolve(about(), messages=(), inputs=("a", "b")))
    assert all(delta.extra is not None and delta.extra.embedding for delta in vectors)


async def check_constraint(backend: LlamaBackend) -> None:
    request = attrs.evolve(about(RED), constraint=Constraint('root ::= "{\\"size\\": " [0-9] [0-9] "}"'), max_tokens=16)
    whole, _ = await answer(backend, request)
    assert 10 <= json.loads("".join(delta.text for delta in whole))["size"] + 10 < 110
    by_chance = attrs.evolve(request, temperature=0.8)
    rest, _ = await answer(backend, by_chance, *whole[:3])
    json.loads("".join(delta.text for delta in (*whole[:3], *rest)))


async def check_refusals(backend: LlamaBackend) -> None:
    cut = url(base64.b64decode(RED.partition(",")[2])[:60])
    huge = url(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**16, 2**16) + bytes(20))
    for request, reason in (
        (about(cut), "Failed to load image"),
        (about(url(b"GIF but no image" * 4)), "image 1 is no PNG"),
        (about(RED, huge), "image 2 has 65536 x 65536 pixels"),
        (about("data:image/png;base64,A"), "image 1 is not valid base64"),
        (about(RED, text="Look<|im_end|>"), r"'<\|im_end\|>' is a control token"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await answer(backend, request)
    with pytest.raises(ContextExceeded):
        await answer(backend, attrs.evolve(about(RED), max_tokens=250))
    with pytest.raises(ContextExceeded, match=r"the prompt has \d+ tokens.* is 256 tokens"):
        await answer(backend, about(RED, text="word " * 300))


async def check_api(node: LocalNode) -> None:
    def body(*urls: str, **fields: Any) -> dict[str, Any]:
        parts = [{"type": "image_url", "image_url": {"url": each}} for each in urls]
        content = [{"type": "text", "text": "Describe"}, *parts]
        return {"model": "sees", "max_tokens": 4, "messages": [{"role": "user", "content": content}]} | fields

    for fields in ({}, {"response_format": {"type": "json_object"}}):
        response = await node.client.post("/v1/chat/completions", json=body(RED, **fields), timeout=30)
        assert response.status_code == 200, response.text
        assert response.json()["usage"]["prompt_tokens"] > 16
    for link, reason in (("https://h/a.png", "`messages[0].content[1]`"), (url(b"no image" * 9), "image 1 is no PNG")):
        response = await node.client.post("/v1/chat/completions", json=body(link))
        assert response.status_code == 400
        assert reason in response.json()["error"]["message"]


async def test_model_with_a_projector(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One child process serves all cases."""
    ffprobe = tmp_path / "ffprobe"
    ffprobe.write_text(f"#!/bin/sh\necho ran > {tmp_path}/ran\n")
    ffprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    projector = tmp_path / "mmproj.gguf"
    write_projector(projector, MODEL_WIDTH)
    made: list[LlamaBackend] = []

    def make() -> LlamaBackend:
        made.append(LlamaBackend(gguf, LlamaSettings(slots=1, context_tokens=256, threads=1, mmproj=str(projector))))
        return made[-1]

    async with local_node(ServedModel("sees", make)) as node:
        await check_api(node)
        await check_takeovers(made[0])
        await check_texts(made[0])
        await check_constraint(made[0])
        await check_refusals(made[0])
        assert len(made) == 1, "no image crashed the model"
        assert not (tmp_path / "ran").exists(), "no broken image was tried as a video"


async def test_projector_that_is_none_is_refused(gguf: Path, tmp_path: Path) -> None:
    for path, reason in ((gguf, "is no projector for images"), (tmp_path / "none.gguf", "there is no model file")):
        with pytest.raises(ModelError, match=reason):
            await LlamaBackend(gguf, LlamaSettings(mmproj=str(path))).start()
