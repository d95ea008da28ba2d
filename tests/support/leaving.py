"""Clients that leave before they have their answer: on each route, and in each way that a client can leave."""

import contextlib
import enum
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Ping, Request, TextMessage

from llmactors.http.sse_reader import SseReader
from tests.support.raw_http import RawExchange

PATIENCE_S = 0.05
"""How long a client with `Way.TIMEOUT` waits before it leaves."""


class Way(enum.Enum):
    """How a client leaves."""

    FIN = "FIN"
    """The client closes its connection."""
    RST = "RST"
    """The connection of the client is reset, as after a crash."""
    TIMEOUT = "timeout"
    """The client reads for `PATIENCE_S`, and then closes its connection."""
    CANCEL = "cancel"
    """The client stays connected and cancels: with `DELETE`, or with `cancel` on a WebSocket."""


class Client(Protocol):
    """The client of one request that was sent."""

    async def read_token(self) -> None:
        """Waits for a part of a streamed answer."""
        ...

    async def leave(self, way: Way, request_id: str) -> None: ...

    async def read_end(self) -> Any:
        """What the client gets after `Way.CANCEL`: the status and the JSON, or the last event of a stream."""
        ...


@attrs.frozen
class Route:
    """One route and form in which a client asks for an answer."""

    name: str
    open: Callable[[str, str, int], contextlib.AbstractAsyncContextManager[Client]]
    """Sends a request to the server at a URL, with a prompt and a number of tokens."""
    streams: bool
    survives: bool
    """Whether the request runs on for its grace after its client has left."""

    def __str__(self) -> str:
        return self.name


class HttpClient:
    """One HTTP exchange."""

    def __init__(self, url: str, exchange: RawExchange) -> None:
        self._url = url
        self._exchange = exchange

    async def read_token(self) -> None:
        if not self._exchange.status:
            await self._exchange.read_head()
        await self._exchange.read()

    async def leave(self, way: Way, request_id: str) -> None:
        match way:
            case Way.FIN:
                await self._exchange.stream.aclose()
            case Way.RST:
                self._exchange.reset()
            case Way.TIMEOUT:
                with trio.move_on_after(PATIENCE_S):
                    if not self._exchange.status:
                        await self._exchange.read_head()
                    await self._exchange.read_all()
                    await trio.sleep_forever()
                await self._exchange.stream.aclose()
            case Way.CANCEL:
                async with await RawExchange.open(self._url, "DELETE", f"/v1/streams/{request_id}") as exchange:
                    assert (await exchange.read_json())["cancelled"]

    async def read_end(self) -> Any:
        if not self._exchange.status:
            await self._exchange.read_head()
        body = await self._exchange.read_all()
        if "text/event-stream" in self._exchange.headers["content-type"]:
            return json.loads(SseReader().feed(body)[-1].data)
        return self._exchange.status, json.loads(body)


class SocketClient:
    """One request over a WebSocket of its own."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._machine = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []

    async def begin(self, host: str, prompt: str, max_tokens: int) -> None:
        await self._stream.send_all(self._machine.send(Request(host=host, target="/v1/ws")))
        assert isinstance(await self._next(), AcceptConnection)
        await self._say(op="generate", prompt=prompt, max_tokens=max_tokens)

    async def read_token(self) -> None:
        while (await self._hear())["event"] != "token":
            pass

    async def leave(self, way: Way, request_id: str) -> None:
        match way:
            case Way.FIN:
                await self._stream.aclose()
            case Way.RST:
                RawExchange(self._stream).reset()
            case Way.TIMEOUT:
                with trio.move_on_after(PATIENCE_S):
                    while True:
                        await self._hear()
                await self._stream.aclose()
            case Way.CANCEL:
                await self._say(op="cancel", id=request_id)

    async def read_end(self) -> Any:
        while (event := await self._hear())["event"] not in {"done", "error"}:
            pass
        return event

    async def _say(self, **message: Any) -> None:
        await self._stream.send_all(self._machine.send(TextMessage(data=json.dumps(message))))

    async def _hear(self) -> Any:
        text = ""
        while True:
            event = await self._next()
            assert isinstance(event, TextMessage)
            text += event.data
            if event.message_finished:
                return json.loads(text)

    async def _next(self) -> Event:
        while True:
            while self._events:
                if not isinstance(event := self._events.pop(0), Ping):
                    return event
            data = await self._stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the server closed the socket")
            self._machine.receive_data(data)
            self._events = list(self._machine.events())


def _http(path: str, body: Callable[[str, int], dict[str, Any]]) -> Any:
    @contextlib.asynccontextmanager
    async def open_(url: str, prompt: str, max_tokens: int) -> AsyncIterator[Client]:
        async with await RawExchange.open(url, "POST", path, body=body(prompt, max_tokens), read_head=False) as made:
            yield HttpClient(url, made)

    return open_


@contextlib.asynccontextmanager
async def _socket(url: str, prompt: str, max_tokens: int) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as stream:
        client = SocketClient(stream)
        await client.begin(parts.netloc, prompt, max_tokens)
        yield client


def _native(prompt: str, max_tokens: int) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": max_tokens}


def _chat(prompt: str, max_tokens: int) -> dict[str, Any]:
    return {"model": "mock", "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}


def _response(prompt: str, max_tokens: int) -> dict[str, Any]:
    return {"model": "mock", "input": prompt, "max_output_tokens": max_tokens}


_NATIVE, _CHAT, _RESPONSES = "/v1/generate", "/v1/chat/completions", "/v1/responses"
STREAM = Route("stream", _http(_NATIVE, lambda *ask: {**_native(*ask), "stream": True}), streams=True, survives=True)
JSON = Route("JSON", _http(_NATIVE, _native), streams=False, survives=False)
SOCKET = Route("WebSocket", _socket, streams=True, survives=True)
CHAT_STREAM = Route(
    "chat stream", _http(_CHAT, lambda *ask: {**_chat(*ask), "stream": True}), streams=True, survives=False
)
CHAT_JSON = Route("chat JSON", _http(_CHAT, _chat), streams=False, survives=False)
CHOICES = Route("chat choices", _http(_CHAT, lambda *ask: {**_chat(*ask), "n": 2}), streams=False, survives=False)
RESPONSE_STREAM = Route(
    "response stream", _http(_RESPONSES, lambda *ask: {**_response(*ask), "stream": True}), streams=True, survives=False
)
RESPONSE_JSON = Route("response JSON", _http(_RESPONSES, _response), streams=False, survives=False)
BACKGROUND = Route(
    "background response",
    _http(_RESPONSES, lambda *ask: {**_response(*ask), "background": True}),
    streams=False,
    survives=True,
)
ROUTES = (STREAM, JSON, SOCKET, CHAT_STREAM, CHAT_JSON, RESPONSE_STREAM, RESPONSE_JSON, BACKGROUND)
