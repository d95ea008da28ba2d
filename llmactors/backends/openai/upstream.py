"""One upstream over HTTP: opens streams, and maps each failure to an error of this package."""

import email.utils
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
import trio

from llmactors.backends.openai.chunks import BadChunk, Chunk, ChunkReader, error_of
from llmactors.backends.openai.settings import UpstreamSettings
from llmactors.errors import (
    STREAM_CODES,
    BackendFailed,
    ContextExceeded,
    InvalidRequest,
    LlmactorsError,
    Unavailable,
    from_code,
)
from llmactors.http.client import ClientResponse, ClientSettings, HttpClient
from llmactors.http.client_errors import BadResponse, ConnectFailed, ConnectTimeout, HttpClientError

log = structlog.get_logger("llmactors.backends.openai")

_MAX_ERROR_BYTES = 65_536
_MAX_SAID = 300
_ERROR_BODY_S = 5.0
_FINISH_S = 0.2
"""How long the end of a complete answer may take to come; after that the connection is closed, not kept."""
_MAX_HOLD_S = 3600.0

_REQUEST_AT_FAULT = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
_MAY_PASS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_OPERATORS_FAULT: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the upstream refuses the key that this service has for it",
    HTTPStatus.FORBIDDEN: "the upstream refuses the key that this service has for it",
    HTTPStatus.NOT_FOUND: "the upstream knows no such route or model",
}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error"}
"""The codes of OpenAI and of llama.cpp for a prompt that is longer than the context."""
_FINAL_CODES = {"INVALID_REQUEST", "CONTEXT_EXCEEDED", "POISONED", "DEADLINE_EXCEEDED", "EXPIRED"}
"""The codes of an llmactors upstream after which another try would end the same."""


class UpstreamFault(Exception):
    """A try at an upstream failed.

    Args:
        error: The error for the client where no other try follows.
        again: Whether another try may help, at this upstream or at another.
        blames: Whether the upstream is at fault, not the request.
        hold_s: For how long the upstream wants no requests; None where it does not say.
    """

    def __init__(
        self, error: LlmactorsError, *, again: bool = True, blames: bool = True, hold_s: float | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.again = again
        self.blames = blames
        self.hold_s = hold_s


class ChunkStream:
    """A response that streams chunks. Its caller must close it; closing makes the upstream stop."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self._reader = ChunkReader()
        self._done = False

    def __repr__(self) -> str:
        return f"<ChunkStream {self._response!r}>"

    async def next(self) -> list[Chunk]:
        """Waits for bytes, and returns the chunks that they complete; none where they were comments.

        Raises `UpstreamFault`, also at the end of the stream.
        """
        try:
            data = await self._response.receive()
            if not data:
                raise UpstreamFault(BackendFailed("the upstream ended the stream in the middle of the answer"))
            chunks = self._reader.feed(data)
        except BadChunk as error:
            raise UpstreamFault(BackendFailed(f"the upstream's stream cannot be read: {error}")) from error
        except BadResponse as error:
            raise UpstreamFault(BackendFailed(f"the upstream breaks HTTP: {error}")) from error
        except HttpClientError as error:
            raise UpstreamFault(BackendFailed("the connection to the upstream broke")) from error
        for chunk in chunks:
            if chunk.error is not None:
                raise in_stream_fault(chunk.error)
            self._done = self._done or chunk.done
        return chunks

    async def close(self) -> None:
        """Closes the connection, unless the answer is whole: then the next request can have the connection."""
        try:
            if self._done and not self._response.complete:
                with trio.move_on_after(_FINISH_S), suppress(HttpClientError):
                    await self._response.read()
        finally:
            self._response.close()


class Upstream:
    """One upstream server.

    Args:
        settings: Where the server is, and how it is reached.
        key: The key that each request carries; empty: the server wants none.
        connect_s: How long the server may take to accept a connection.

    Raises:
        ValueError: The file of certificate authorities cannot be used, or the key is no header's value.
    """

    def __init__(self, settings: UpstreamSettings, key: str, connect_s: float) -> None:
        self._url = settings.url
        headers = [("Accept", "text/event-stream"), ("Content-Type", "application/json")]
        if key:
            headers.append(("Authorization", f"Bearer {key}"))
        connection = ClientSettings(connect_s=connect_s, proxy=settings.proxy, ca_file=settings.ca_file)
        self._client = HttpClient(settings.url, headers=headers, settings=connection)

    def __repr__(self) -> str:
        return f"<Upstream {self._url}>"

    async def open(self, route: str, body: Mapping[str, Any]) -> ChunkStream:
        """Waits for the head of the response, as long as it takes. Raises `UpstreamFault`."""
        response = await self._send(route, body)
        if response.status == HTTPStatus.OK and _kind(response) == "text/event-stream":
            return ChunkStream(response)
        async with response:
            raise await self._read_refusal(response)

    async def fetch(self, route: str, body: Mapping[str, Any], max_bytes: int) -> bytes:
        """Waits for the whole body of a JSON response, of at most `max_bytes`. Raises `UpstreamFault`."""
        response = await self._send(route, body)
        async with response:
            if response.status != HTTPStatus.OK:
                raise await self._read_refusal(response)
            try:
                return await response.read(max_bytes)
            except HttpClientError as error:
                raise UpstreamFault(BackendFailed("the connection to the upstream broke")) from error

    def close(self) -> None:
        """Closes the connections that no request uses."""
        self._client.close()

    async def _send(self, route: str, body: Mapping[str, Any]) -> ClientResponse:
        try:
            return await self._client.open("POST", f"/{route}", msgspec.json.encode(body))
        except ConnectTimeout as error:
            raise UpstreamFault(Unavailable("the upstream accepts no connection in time")) from error
        except ConnectFailed as error:
            raise UpstreamFault(Unavailable("the upstream cannot be reached")) from error
        except BadResponse as error:
            raise UpstreamFault(BackendFailed(f"the upstream breaks HTTP: {error}")) from error
        except HttpClientError as error:
            raise UpstreamFault(BackendFailed("the upstream closed the connection without an answer")) from error

    async def _read_refusal(self, response: ClientResponse) -> UpstreamFault:
        told = b""
        with trio.move_on_after(_ERROR_BODY_S), suppress(HttpClientError):
            told = await response.read(_MAX_ERROR_BYTES)
        return self._refusal(response, error_of(told))

    def _refusal(self, response: ClientResponse, error: dict[str, Any]) -> UpstreamFault:
        status = response.status
        if status != HTTPStatus.OK:
            log.warning(
                "an upstream refused a request", upstream=self._url, status=status, code=str(error.get("code"))[:64]
            )
        return refusal_fault(status, error, retry_after_s(response.headers, time.time()))


def _kind(response: ClientResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def refusal_fault(status: int, error: dict[str, Any], hold_s: float | None) -> UpstreamFault:
    """The fault that a response other than a stream stands for."""
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
    # The upstream's own text is left out: such texts quote the key.
    return UpstreamFault(BackendFailed(_OPERATORS_FAULT.get(status, f"the upstream answered {status}")))


def in_stream_fault(error: dict[str, Any]) -> UpstreamFault:
    """The fault that an error object in a stream stands for.

    A code of llmactors keeps its meaning. Any other code may be an HTTP status.
    """
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
    """`retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110, 10.2.3); None where neither is valid."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError, KeyError):
            seconds = float(headers[name]) * unit
            return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError, KeyError):
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - wall_time)
    return None


def _said(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get("message") or "no reason given").split())[:_MAX_SAID]
