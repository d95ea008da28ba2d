"""The vectors of a request for embeddings, from the `/embeddings` of an upstream."""

import base64
import struct
from typing import Any

import msgspec
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.openai.requests.call_trace import CallTrace
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.responses.chunk_body import ChunkUsage, as_count
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed
from llmactors.messages import TokenDelta, TokenExtra

_MAX_BYTES = 65_536
_MAX_VECTOR_BYTES = 262_144
"""The bounds on a response, and on each vector in it: 3072 numbers are 16 KiB as Base64, and 64 KiB as JSON."""
_NUMBER_BYTES = 4
EMBEDDING = ("inputs", "dimensions")
"""The optional fields of a request for embeddings, which every upstream gets."""


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw]
    usage: ChunkUsage | None = None


async def fetch_vectors(upstream: Upstream, model: str, job: Job, trace: CallTrace, *, within_s: float) -> Output:
    """Asks one upstream for the vectors behind those that are in the log. Raises `UpstreamFault`."""
    inputs = job.request.inputs[len(job.tokens) :]
    if not inputs:
        return Output(job.key, (), "stop")
    # An upstream that does not know `encoding_format` sends numbers.
    body: dict[str, Any] = {"model": model, "input": inputs, "encoding_format": "base64"}
    if job.request.dimensions:
        body["dimensions"] = job.request.dimensions
    try:
        with trio.fail_after(within_s):
            answer = await upstream.fetch("embeddings", body, _MAX_BYTES + len(inputs) * _MAX_VECTOR_BYTES, trace)
    except trio.TooSlowError as error:
        raise UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream did not answer in time")) from error
    count = len(inputs)
    vectors, prompt_tokens = await _read(answer, count)
    names = [model if model != job.request.model and not job.tokens else "", *[""] * (count - 1)]
    extras = [TokenExtra(embedding=vector, model=name) for vector, name in zip(vectors, names, strict=True)]
    return Output(job.key, [TokenDelta(0, "", extra) for extra in extras], "stop", prompt_tokens)


async def _read(body: bytes, count: int) -> tuple[list[bytes], int]:
    """The `count` vectors of a response, and how many tokens the inputs have; 0 where the upstream does not say.

    Other tasks run between the vectors. Raises `UpstreamFault` where there are not as many vectors, or one is
    malformed.
    """
    vectors: dict[int, bytes] = {}
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        for item in map(_item, answer.data[: count + 1]):
            await trio.lowlevel.checkpoint()
            vectors[item.index] = _as_bytes(item.embedding)
    except (ValueError, RecursionError, struct.error, OverflowError) as error:
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed("the upstream's vectors cannot be read")) from error
    found = [vectors[index] for index in sorted(vectors)]
    if len(answer.data) != count or len(found) != count or any(not each or len(each) % _NUMBER_BYTES for each in found):
        text = f"the upstream sent no {count} vectors of 32-bit numbers"
        raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text))
    return found, 0 if answer.usage is None else as_count(answer.usage.prompt_tokens) or 0


def _item(raw: msgspec.Raw) -> _Item:
    return msgspec.json.decode(raw, type=_Item)


def _as_bytes(vector: str | list[float]) -> bytes:
    if isinstance(vector, str):
        return base64.b64decode(vector, validate=True)
    return struct.pack(f"<{len(vector)}f", *vector)
