"""The vectors of a request for embeddings, from the `/embeddings` of an upstream."""

import base64
import binascii
import struct
from typing import Any

import msgspec
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.openai.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.upstream import Upstream
from llmactors.errors import BackendFailed
from llmactors.messages import TokenDelta, TokenExtra

_MAX_BYTES = 64 * 2**20
"""The longest response: 64 vectors of 3072 numbers are 1 MiB as Base64, and 4 MiB as JSON."""
_NUMBER_BYTES = 4
EMBEDDING = ("inputs", "dimensions")
"""The optional fields of a request for embeddings, which every upstream gets."""


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


async def fetch_vectors(upstream: Upstream, model: str, job: Job, *, within_s: float) -> Output:
    """Asks one upstream for the vectors behind those that are in the log. Raises `UpstreamFault`."""
    inputs = job.request.inputs[len(job.tokens) :]
    if not inputs:
        return Output(job.key, (), "stop")
    # An upstream that does not know the format sends numbers.
    body: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": "base64"}
    if job.request.dimensions:
        body["dimensions"] = job.request.dimensions
    try:
        with trio.fail_after(within_s):
            answer = await upstream.fetch("embeddings", body, _MAX_BYTES)
    except trio.TooSlowError as error:
        raise UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream did not answer in time")) from error
    count = len(inputs)
    vectors, prompt_tokens = _read(answer, count)
    names = [model if model != job.request.model and not job.tokens else "", *[""] * (count - 1)]
    extras = [TokenExtra(embedding=vector, model=name) for vector, name in zip(vectors, names, strict=True)]
    return Output(job.key, [TokenDelta(0, "", extra) for extra in extras], "stop", prompt_tokens)


def _read(body: bytes, count: int) -> tuple[list[bytes], int]:
    """The `count` vectors of a response, and how many tokens the inputs have; 0 where the upstream does not say.

    Raises `UpstreamFault` where there are not as many vectors, or one is malformed.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        vectors = [_as_bytes(item.embedding) for item in sorted(answer.data, key=lambda item: item.index)]
    except (msgspec.MsgspecError, UnicodeError, binascii.Error, struct.error, OverflowError) as error:
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed("the upstream's vectors cannot be read")) from error
    if len(vectors) != count or any(not vector or len(vector) % _NUMBER_BYTES for vector in vectors):
        text = f"the upstream sent no {count} vectors of 32-bit numbers"
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text))
    return vectors, 0 if answer.usage is None else answer.usage.prompt_tokens


def _as_bytes(vector: str | list[float]) -> bytes:
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    return struct.pack(f"<{len(vector)}f", *vector)
