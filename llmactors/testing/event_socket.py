"""One request and the SSE events of its answer, on a connection of its own; many of them fit into one process."""

import contextlib
from types import TracebackType
from typing import Any, Self

import msgspec

from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.client_errors import BadResponse, ConnectFailed, ConnectionCut, HttpClientError
from llmactors.http.client_response import ClientResponse
from llmactors.http.sse_reader import BadEventStream, SseReader

_ONE_REQUEST = ClientSettings(max_idle=0)


class CutError(Exception):
    """The connection ended before the answer did. The first argument is a short class of reasons, for counting."""


class StreamEvent(msgspec.Struct):
    """The JSON of one event, and the event's name."""

    id: str = ""
    seq: int | None = None
    """None for an event that stands in no log."""
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    name: str = ""


_decode = msgspec.json.Decoder(StreamEvent).decode


class EventSocket:
    """One request and its answer. An async context manager, which closes the connection."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self._reader = SseReader()

    @classmethod
    async def open(
        cls, url: str, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None
    ) -> Self:
        """Sends a request with a JSON body to the server at `url`, and reads the head of the answer.

        Raises `CutError`.
        """
        client = HttpClient(url, headers=list((headers or {}).items()), settings=_ONE_REQUEST)
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            return cls(await client.open(method, path, data))
        except HttpClientError as error:
            raise CutError(_reason(error)) from error

    @property
    def status(self) -> int:
        """The status code of the answer."""
        return self._response.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer. Names are in lower case."""
        return dict(self._response.headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._response.close()

    async def events(self) -> list[StreamEvent]:
        """Waits for the next events, one or more; returns an empty list at the end of the answer. Raises `CutError`."""
        while piece := await self._receive():
            try:
                found = self._reader.feed(piece)
            except BadEventStream as error:
                raise CutError("malformed event") from error
            if found:
                return [_event(each.data, each.name) for each in found]
        return []

    async def read_json(self) -> Any:
        """Reads the whole body of an answer that is no stream; None if the body is no JSON. Raises `CutError`."""
        pieces: list[bytes] = []
        while piece := await self._receive():
            pieces.append(piece)
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(b"".join(pieces))
        return None

    async def _receive(self) -> bytes:
        try:
            return await self._response.receive()
        except HttpClientError as error:
            raise CutError(_reason(error)) from error


def _event(data: bytes, name: str) -> StreamEvent:
    try:
        event = _decode(data)
    except msgspec.DecodeError as error:
        raise CutError("malformed event") from error
    event.name = name
    return event


def _reason(error: HttpClientError) -> str:
    match error:
        case ConnectFailed():
            return "connection refused"
        case ConnectionCut(begun=begun):
            return "closed early" if begun else "closed before the answer"
        case BadResponse():
            return "malformed answer"
        case _:
            return type(error).__name__
