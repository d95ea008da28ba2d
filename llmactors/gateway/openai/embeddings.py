"""`/v1/embeddings`: one vector for each input.

A call becomes up to `MAX_REQUESTS` requests of the ledger. The log of a request has one token for each input, which
carries the vector, so a worker that takes a request over goes on behind the vectors that are there.
"""

import base64
import struct
from collections.abc import Callable, Iterator, Sequence

import msgspec
import trio

from llmactors.access.authentication import Caller
from llmactors.errors import BackendFailed
from llmactors.gateway.answering_model import answering_model
from llmactors.gateway.body import deadline_of
from llmactors.gateway.openai.choices import AdmittedChoices
from llmactors.gateway.openai.embedding_schema import read_embeddings
from llmactors.gateway.openai.render import add_up
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import Exchange
from llmactors.ledger import LogSlice
from llmactors.messages import Finished

_PIECE_BYTES = 64 * 1024
"""The least size of a piece of the response. Other tasks run between two pieces: to write all the numbers of a long
answer as JSON takes a large part of a second."""


async def embeddings(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`POST /v1/embeddings`."""
    body = read_embeddings(await service.bodies.read(exchange))
    requests = body.requests(deadline_of(exchange.header(b"x-request-deadline")))
    async with AdmittedChoices(service) as admitted:
        await admitted.admit(exchange, caller, requests)
        logs = await admitted.wait_logs(exchange, counts_tokens=False)
        if logs is None:
            return
        vectors = _vectors(logs, [request.max_tokens for request in requests])
        admitted.answered = True
        model = answering_model(admitted.admissions[0].request, logs[0].deltas)
        encode = _as_base64 if body.encoding_format == "base64" else _as_numbers
        await exchange.begin(200, admitted.headers, "application/json")
        had = int(exchange.reached or b"0")
        if exchange.reached is not None:
            await exchange.resume()
        for number, piece in enumerate(_pieces(_texts(vectors, encode, model, logs)), 1):
            if number > had:
                exchange.note_reached(b"%d" % number)
                await exchange.write(piece)
            await trio.lowlevel.checkpoint()
        await exchange.write(b"", more=False)


def _vectors(logs: Sequence[LogSlice], counts: Sequence[int]) -> list[bytes]:
    """All vectors, in the order of the inputs. Raises `BackendFailed` where a backend made fewer or more."""
    vectors: list[bytes] = []
    for log, count in zip(logs, counts, strict=True):
        found = [delta.extra.embedding for delta in log.deltas if delta.extra is not None and delta.extra.embedding]
        if len(found) != count:
            raise BackendFailed(f"the model made {len(found)} vectors of {count} inputs")
        vectors += found
    return vectors


def _texts(
    vectors: Sequence[bytes], encode: Callable[[bytes], bytes], model: str, logs: Sequence[LogSlice]
) -> Iterator[bytes]:
    """The JSON of the answer, in parts of one vector each."""
    yield b'{"object":"list","data":['
    for index, vector in enumerate(vectors):
        comma = b"," if index else b""
        yield b'%b{"object":"embedding","index":%d,"embedding":%b}' % (comma, index, encode(vector))
    prompt_tokens = add_up([log.end.usage for log in logs if isinstance(log.end, Finished)]).prompt_tokens
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    yield b'],"model":%b,"usage":%b}' % (msgspec.json.encode(model), msgspec.json.encode(usage))


def _pieces(texts: Iterator[bytes]) -> Iterator[bytes]:
    """The texts together, in pieces of at least `_PIECE_BYTES`."""
    while True:
        size = 0
        piece: list[bytes] = []
        for text in texts:
            piece.append(text)
            size += len(text)
            if size >= _PIECE_BYTES:
                break
        if not piece:
            return
        yield b"".join(piece)


def _as_base64(vector: bytes) -> bytes:
    return b'"%b"' % base64.b64encode(vector)


def _as_numbers(vector: bytes) -> bytes:
    return msgspec.json.encode(struct.unpack(f"<{len(vector) // 4}f", vector))
