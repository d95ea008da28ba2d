"""One upstream over HTTP: opens streams, and says which fault each failure is."""

import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
import trio

from llmactors.backends.openai.engines.engine import Reader
from llmactors.backends.openai.requests.call_trace import UNTRACED, CallTrace
from llmactors.backends.openai.requests.omissions import Omissions, named_fields
from llmactors.backends.openai.responses.chunks import BadChunk, Chunk, error_of
from llmactors.backends.openai.routing.faults import (
    FaultKind,
    UpstreamFault,
    in_stream_fault,
    refusal_fault,
    retry_after_s,
)
from llmactors.backends.openai.settings import UpstreamSettings
from llmactors.errors import BackendFailed, Unavailable
from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import BadResponse, ConnectFailed, ConnectTimeout, HttpClientError
from llmactors.http.client_response import Absorb, ClientResponse
from llmactors.http.client_socket import Origin

log = structlog.get_logger("llmactors.backends.openai")

_READABLE = {"text/event-stream", "application/json", "application/octet-stream", "text/plain", ""}
"""The content types of answers. Some servers and proxies give a stream another type than its own."""
_MAX_BYTES = 16 << 20
_MAX_ERROR_BYTES = 65_536
_FIELDS_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_MAX_MODELS_BYTES = 2**20
_ERROR_BODY_S = 5.0
_FINISH_S = 0.2
"""How long the end of a complete answer may take to come; after that the connection is closed, not kept."""


class ChunkStream:
    """A response that streams chunks. Its caller must close it; closing makes the upstream stop.

    Args:
        response: The response.
        reader: The reader of the response's body.
    """

    def __init__(self, response: ClientResponse, reader: Reader) -> None:
        self._response = response
        self._reader = reader
        self._begun = False
        """Whether a chunk has come."""
        self._fault: UpstreamFault | None = None
        """The fault behind the chunks that were returned last."""
        self._done = False

    def __repr__(self) -> str:
        return f"<ChunkStream {self._response!r}>"

    @property
    def has_fault(self) -> bool:
        """Whether a fault follows the chunks that were returned last."""
        return self._fault is not None

    async def receive(self, deadline: float, absorb: Absorb | None = None) -> bytes:
        """Waits for the next bytes until `deadline`, as `ClientResponse.receive` does; empty at the end of the stream.

        Raises `UpstreamFault`, and `trio.TooSlowError` at the deadline.
        """
        if self._fault is not None:
            raise self._fault
        try:
            return await self._response.receive(deadline, absorb)
        except BadResponse as error:
            raise UpstreamFault(FaultKind.ERROR, BackendFailed(f"the upstream breaks HTTP: {error}")) from error
        except HttpClientError as error:
            raise UpstreamFault(FaultKind.CUT, BackendFailed("the connection to the upstream broke")) from error

    def read(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes; none where they were comments.

        Raises `UpstreamFault`, also where `data` is empty, which is the end of the stream, and completes nothing.
        """
        try:
            chunks = self._reader.feed(data) if data else self._reader.feed_eof()
        except BadChunk as error:
            raise self._unreadable(error) from error
        if not data and not chunks:
            text = "the upstream ended the stream in the middle of the answer"
            raise UpstreamFault(FaultKind.CUT, BackendFailed(text))
        self._begun = self._begun or bool(chunks)
        if self._reader.fault is not None:
            self._fault = self._unreadable(self._reader.fault)
        for place, chunk in enumerate(chunks):
            if chunk.error is not None:
                self._fault = in_stream_fault(chunk.error)
                if place == 0:
                    raise self._fault
                return chunks[:place]
            self._done = self._done or chunk.done
        return chunks

    def _unreadable(self, error: BadChunk) -> UpstreamFault:
        """The fault is of this one answer where its beginning could be read; otherwise the upstream is at fault."""
        kind = FaultKind.MALFORMED if self._begun else FaultKind.ERROR
        return UpstreamFault(kind, BackendFailed(f"the upstream's stream cannot be read: {error}"))

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
        self._sends_trace = settings.traceparent
        self._origin = Origin.parse(settings.url.removesuffix("/v1"))
        headers = [("Accept", "text/event-stream"), ("Content-Type", "application/json")]
        if key:
            headers.append(("Authorization", f"Bearer {key}"))
        connection = ClientSettings(connect_s=connect_s, proxy=settings.proxy, ca_file=settings.ca_file, gathers=True)
        self._api = "/v1" if settings.url.endswith("/v1") else ""
        """Where the routes of OpenAI's API are on the server."""
        self._client = HttpClient(settings.url.removesuffix("/v1"), headers=headers, settings=connection)
        self._omissions = Omissions(settings.omit)

    def __repr__(self) -> str:
        return f"<Upstream {self._url}>"

    async def open(
        self, route: str, body: Mapping[str, Any], reader: Reader, trace: CallTrace = UNTRACED
    ) -> ChunkStream:
        """Waits for the head of the response, as long as it takes. Raises `UpstreamFault`.

        A route that begins with a slash is one of the server, and any other one belongs to its OpenAI API. A request
        that is refused for a field that the answer does without is sent again without the field.
        """
        while True:
            sent = self._omissions.body(body, trio.current_time())
            response = await self._send(route, sent, trace)
            if response.status == HTTPStatus.OK and _kind(response) in _READABLE:
                return ChunkStream(response, reader)
            async with response:
                refusal = await self._read_body(response)
                if not self._learns(response.status, refusal, sent):
                    raise self._refusal(response, refusal, sent)
            trace.end()

    async def fetch(
        self,
        route: str,
        body: Mapping[str, Any] | None,
        max_bytes: int = _MAX_BYTES,
        trace: CallTrace = UNTRACED,
    ) -> bytes:
        """Waits for the whole body of a JSON response, of at most `max_bytes`. Raises `UpstreamFault`.

        The route is as in `open`. Without a body the method is GET.
        """
        while True:
            sent = None if body is None else self._omissions.body(body, trio.current_time())
            response = await self._send(route, sent, trace)
            async with response:
                if response.status == HTTPStatus.OK:
                    try:
                        return await response.read(max_bytes)
                    except HttpClientError as error:
                        text = "the connection to the upstream broke"
                        raise UpstreamFault(FaultKind.CUT, BackendFailed(text)) from error
                refusal = await self._read_body(response)
                if sent is None or not self._learns(response.status, refusal, sent):
                    raise self._refusal(response, refusal, sent or {})
            trace.end()

    async def list_models(self) -> None:
        """Asks for the list of models, and waits for the end of the answer. Raises `UpstreamFault`."""
        response = await self._send("models", None)
        async with response:
            # Some keys may ask for answers, and get a 403 for the list of models.
            if response.status not in {HTTPStatus.OK, HTTPStatus.FORBIDDEN}:
                raise refusal_fault(response.status, {}, None)
            with suppress(HttpClientError):
                await response.read(_MAX_MODELS_BYTES)

    def close(self) -> None:
        """Closes the connections that no request uses."""
        self._client.close()

    async def _send(self, route: str, body: Mapping[str, Any] | None, trace: CallTrace = UNTRACED) -> ClientResponse:
        path = route if route.startswith("/") else f"{self._api}/{route}"
        try:
            if body is None:
                return await self._client.open("GET", path)
            named = trace.send(self._origin, self._origin.prefix + path)
            headers = named if self._sends_trace else ()
            response = await self._client.open("POST", path, msgspec.json.encode(body), headers)
        except ConnectTimeout as error:
            text = "the upstream accepts no connection in time"
            raise UpstreamFault(FaultKind.UNREACHABLE, Unavailable(text)) from error
        except ConnectFailed as error:
            raise UpstreamFault(FaultKind.UNREACHABLE, Unavailable("the upstream cannot be reached")) from error
        except BadResponse as error:
            raise UpstreamFault(FaultKind.ERROR, BackendFailed(f"the upstream breaks HTTP: {error}")) from error
        except HttpClientError as error:
            text = "the upstream closed the connection without an answer"
            raise UpstreamFault(FaultKind.CUT, BackendFailed(text)) from error
        trace.respond(response.status)
        return response

    @staticmethod
    async def _read_body(response: ClientResponse) -> bytes:
        with trio.move_on_after(_ERROR_BODY_S), suppress(HttpClientError):
            return await response.read(_MAX_ERROR_BYTES)
        return b""

    def _learns(self, status: int, refusal: bytes, sent: Mapping[str, Any]) -> bool:
        """Whether the request is worth being sent again, in another form."""
        if status not in _FIELDS_REFUSED:
            return False
        text = refusal[:_MAX_ERROR_BYTES].decode(errors="replace")
        learnt = self._omissions.learn(named_fields(refusal), text, sent, trio.current_time())
        if learnt:
            log.warning(
                "an upstream does not take a field, and gets its requests without the field",
                upstream=self._url,
                fields=learnt,
                counts="estimated" if "stream_options" in learnt else "as the upstream sends them",
            )
        return bool(learnt)

    def _refusal(self, response: ClientResponse, refusal: bytes, sent: Mapping[str, Any]) -> UpstreamFault:
        status, error = response.status, error_of(refusal)
        if status != HTTPStatus.OK:
            log.warning(
                "an upstream refused a request", upstream=self._url, status=status, code=str(error.get("code"))[:64]
            )
        fields = [name for name in named_fields(refusal) if name in sent] if status in _FIELDS_REFUSED else []
        field = fields[0] if len(fields) == 1 else ""
        return refusal_fault(status, error, retry_after_s(response.headers, time.time()), field=field)


def _kind(response: ClientResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
