"""One upstream over httpx: opens an exchange, and says in our words what went wrong."""

import email.utils
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import attrs
import httpx
import structlog
import trio

from llmactors.backends.openai.chunks import BadChunk, Chunk, ChunkReader, error_of
from llmactors.errors import (
    STREAM_CODES,
    BackendFailed,
    ContextExceeded,
    InvalidRequest,
    LlmactorsError,
    Unavailable,
    from_code,
)

log = structlog.get_logger("llmactors.backends.openai")

_MAX_ERROR_BYTES = 65_536
_MAX_SAID = 300
_ERROR_BODY_S = 5.0
_FINISH_S = 0.2
"""How long a connection may take to become free for the next request."""
_MAX_HOLD_S = 3600.0

_REQUEST_AT_FAULT = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_OPERATORS_FAULT: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the upstream refuses the key that this service has for it",
    HTTPStatus.FORBIDDEN: "the upstream refuses the key that this service has for it",
    HTTPStatus.NOT_FOUND: "the upstream knows no such route or model",
}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
"""What OpenAI's own servers, and llama.cpp's, say of a prompt that is longer than the context."""
_FINAL_CODES = {"INVALID_REQUEST", "CONTEXT_EXCEEDED", "POISONED", "DEADLINE_EXCEEDED", "EXPIRED"}
"""Codes of another llmactors that another try does not change."""


class UpstreamFault(Exception):
    """A try has failed.

    Args:
        error: What the client is told where no other try follows.
        again: Another try may help, at this upstream or at another.
        blames: It speaks against the upstream, not against the request.
        hold_s: For how long the upstream wants to be left alone.
    """

    def __init__(
        self, error: LlmactorsError, *, again: bool = True, blames: bool = True, hold_s: float | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.blames = blames
        self.hold_s = hold_s


@attrs.define(eq=False)
class Exchange:
    """A response that streams. Whoever gets it closes it, which makes the upstream stop."""

    _response: httpx.Response
    _bytes: AsyncIterator[bytes]
    _reader: ChunkReader = attrs.field(factory=ChunkReader)
    _ended: bool = False

    async def next(self) -> list[Chunk]:
        """What came since; empty where these were comments. Raises `UpstreamFault`, also at the end of the stream."""
        try:
            data = await anext(self._bytes, None)
            if data is None:
                raise UpstreamFault(BackendFailed("the upstream ended the stream in the middle of the answer"))
            chunks = self._reader.feed(data)
        except BadChunk as error:
            raise UpstreamFault(BackendFailed(f"the upstream sent what cannot be read: {error}")) from error
        except httpx.HTTPError as error:
            raise UpstreamFault(BackendFailed("the connection to the upstream broke")) from error
        for chunk in chunks:
            if chunk.error is not None:
                raise in_stream_fault(chunk.error)
            self._ended = self._ended or chunk.done
        return chunks

    async def close(self) -> None:
        """Drops the connection, unless the answer is whole: then the next request can have it."""
        if self._ended:
            with trio.move_on_after(_FINISH_S), suppress(httpx.HTTPError, httpx.StreamError):
                async for _ in self._bytes:
                    pass
        await _close(self._response, self._bytes)


class Upstream:
    """One server.

    Args:
        url: Where its API begins.
        key: Sent with each request; empty: none is.
        connect_s: How long it may take to accept a connection.
    """

    def __init__(self, url: str, key: str, connect_s: float) -> None:
        self._url = url
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=connect_s),  # the backend's own deadlines are finer than httpx's
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=4.0),
        )

    def __repr__(self) -> str:
        return f"<Upstream {self._url}>"

    async def open(self, route: str, body: Mapping[str, Any]) -> Exchange:
        """Waits for the head of the response, as long as it takes. Raises `UpstreamFault`."""
        request = self._client.build_request("POST", f"{self._url}/{route}", json=body)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.ConnectTimeout as error:
            raise UpstreamFault(Unavailable("the upstream accepts no connection in time")) from error
        except httpx.ConnectError as error:
            raise UpstreamFault(Unavailable("the upstream cannot be reached")) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamFault(BackendFailed("the upstream closed the connection without an answer")) from error
        chunks = response.aiter_bytes()
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == HTTPStatus.OK and kind == "text/event-stream":
            return Exchange(response, chunks)
        try:
            said = b""
            with trio.move_on_after(_ERROR_BODY_S):
                said = await _read(chunks)
            raise self._refusal(response, error_of(said))
        finally:
            await _close(response, chunks)

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    def _refusal(self, response: httpx.Response, error: dict[str, Any]) -> UpstreamFault:
        status = response.status_code
        if status != HTTPStatus.OK:
            log.warning("upstream refused", upstream=self._url, status=status, code=str(error.get("code"))[:64])
        return refusal_fault(status, error, retry_after_s(response.headers, time.time()))


def refusal_fault(status: int, error: dict[str, Any], hold_s: float | None) -> UpstreamFault:
    """What an answer other than a stream means."""
    if status == HTTPStatus.OK:
        return UpstreamFault(BackendFailed("the upstream answered with something that is no event stream"))
    if status in _REQUEST_AT_FAULT:
        too_long = {str(error.get("code")), str(error.get("type"))} & _TOO_LONG
        kind = ContextExceeded if too_long else InvalidRequest
        refused = kind(f"the upstream refuses the request: {_said(error)}")
        return UpstreamFault(refused, again=False, blames=False)
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} and hold_s is not None:
        told = Unavailable("the upstream has no room now", retry_after_s=hold_s)
        return UpstreamFault(told, blames=False, hold_s=min(hold_s, _MAX_HOLD_S))
    if status in _MAY_PASS or status == HTTPStatus.SERVICE_UNAVAILABLE:
        told = Unavailable(f"the upstream cannot take the request now (it answered {status})", retry_after_s=1.0)
        return UpstreamFault(told, blames=status == HTTPStatus.SERVICE_UNAVAILABLE)
    # Not its text: such texts quote the key.
    return UpstreamFault(BackendFailed(_OPERATORS_FAULT.get(status, f"the upstream answered {status}")))


def in_stream_fault(error: dict[str, Any]) -> UpstreamFault:
    """What an error object inside of a stream means. Codes of ours stay what they are; others may be statuses."""
    code = error.get("code")
    if isinstance(code, str) and code in STREAM_CODES:
        return UpstreamFault(from_code(code, _said(error)), again=code not in _FINAL_CODES, blames=False)
    try:
        status = int(str(code))
    except ValueError:
        status = 0
    if status in _REQUEST_AT_FAULT or error.get("type") in {"invalid_request_error", "BadRequestError"}:
        return refusal_fault(HTTPStatus.BAD_REQUEST, error, None)
    return UpstreamFault(BackendFailed("the upstream gave the request up"))


def retry_after_s(headers: Mapping[str, str], wall_time: float) -> float | None:
    """`retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); None if there is no such."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError, KeyError):
            seconds = float(headers[name]) * unit
            return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError, KeyError):
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - wall_time)
    return None


def _said(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get("message") or "no reason given").split())[:_MAX_SAID]


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    """A body, or as much of it as an error may have; empty where it breaks."""
    found = b""
    with suppress(httpx.HTTPError):
        while len(found) < _MAX_ERROR_BYTES and (data := await anext(chunks, None)) is not None:
            found += data
    return found


async def _close(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    # httpx reads through generators inside of generators, and closing the outermost leaves the others to the garbage
    # collector, which Trio complains about. So the connection is closed first: then reading on raises at once, and
    # ends them all in order.
    with trio.CancelScope(shield=True), trio.move_on_after(1.0):
        await response.aclose()
        with suppress(httpx.HTTPError, httpx.StreamError):
            async for _ in chunks:
                pass
