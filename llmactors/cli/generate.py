"""`generate`: one prompt to a running node, streamed to the terminal over SSE, or over a WebSocket."""

import contextlib
import json
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

import trio
import trio_websocket
from cyclopts import Parameter

from llmactors.cli.client import API_KEY, URL, auth_headers, explain, no_answer, node_client
from llmactors.cli.descriptors import read_input, show
from llmactors.errors import LlmactorsError, Unavailable, from_code
from llmactors.http.client import HttpClient
from llmactors.http.client_errors import BadResponse, ConnectionCut, HttpClientError
from llmactors.http.client_response import ClientResponse
from llmactors.http.sse_reader import BadEventStream, SseReader

RECONNECTS = 5
"""How often the stream is resumed after its connection was cut, from the last event seen."""
_SILENCE_S = 60.0
"""A stream that brings nothing for this long is cut off; a node sends at least a comment every 15 seconds."""


def command(
    prompt: Annotated[str | None, Parameter(help="The prompt. By default, standard input is read.")] = None,
    /,
    *,
    url: URL = "http://127.0.0.1:8000",
    api_key: API_KEY = None,
    model: Annotated[str | None, Parameter(help="The model to ask. By default, the first model of the node.")] = None,
    max_tokens: Annotated[int, Parameter(help="The longest answer, in tokens.")] = 256,
    temperature: Annotated[
        float | None, Parameter(help="The temperature of sampling. 0 always takes the likeliest token.")
    ] = None,
    seed: Annotated[
        int | None, Parameter(help="The seed of sampling. With the same seed, an answer is the same again.")
    ] = None,
    raw: Annotated[
        bool, Parameter(help="Give the model the prompt without its chat template.", show_default=False)
    ] = False,
    ws: Annotated[
        bool, Parameter(help="Stream over a WebSocket instead of server-sent events.", show_default=False)
    ] = False,
) -> int:
    """Stream one answer from a running node to the terminal."""
    given = {"model": model, "temperature": temperature, "seed": seed, "raw": raw or None}
    body: dict[str, Any] = {"prompt": read_input() if prompt is None else prompt, "max_tokens": max_tokens}
    body |= {name: value for name, value in given.items() if value is not None}
    if ws:
        trio.run(_over_websocket, url, auth_headers(api_key), body)
    else:
        trio.run(_over_sse, url, api_key, body)
    return 0


async def _over_sse(url: str, api_key: str | None, body: dict[str, Any]) -> None:
    with contextlib.closing(node_client(url, api_key)) as client:
        stream = _Stream(client, url, body)
        reconnects = 0
        while True:
            try:
                return await stream.show()
            except (HttpClientError, trio.TooSlowError) as error:
                reconnects += 1
                if not stream.request_id or reconnects > RECONNECTS:
                    raise no_answer(url, error) from error
                await trio.sleep(0.2 * 2**reconnects)


class _Stream:
    """One answer, over as many connections as it takes."""

    def __init__(self, client: HttpClient, url: str, body: dict[str, Any]) -> None:
        self._client = client
        self._url = url
        self._body = {**body, "stream": True}
        self._last_id = ""
        self.request_id = ""
        """Empty until the node has accepted the request."""

    async def show(self) -> None:
        """Begins the stream or resumes it, and prints it to its end. Raises `HttpClientError` or `TooSlowError`."""
        with trio.fail_after(_SILENCE_S) as silence:
            async with await self._open() as response:
                if response.status == HTTPStatus.NO_CONTENT:
                    return
                if response.status != HTTPStatus.OK:
                    raise explain(self._url, response.status, await response.read())
                self.request_id = response.headers.get("x-request-id", "")
                reader = SseReader()
                while data := await response.receive():
                    silence.deadline = trio.current_time() + _SILENCE_S
                    if self._show(reader, data):
                        return
                raise ConnectionCut("the stream ended without its last event", begun=True)

    async def _open(self) -> ClientResponse:
        if self.request_id:
            resume = [("Last-Event-ID", self._last_id)]
            return await self._client.open("GET", f"/v1/streams/{self.request_id}", headers=resume)
        kind = [("Content-Type", "application/json")]
        return await self._client.open("POST", "/v1/generate", json.dumps(self._body).encode(), kind)

    def _show(self, reader: SseReader, data: bytes) -> bool:
        """Prints the events in `data`, and returns whether the last one ended the answer."""
        try:
            events = reader.feed(data)
        except BadEventStream as error:
            raise BadResponse(str(error)) from error
        for event in events:
            self._last_id = event.id or self._last_id
            if _show(event.name, json.loads(event.data)):
                return True
        return False


def _show(name: str, payload: dict[str, Any]) -> bool:
    """Prints one event, and returns whether the event ends the answer."""
    match name:
        case "token":
            show(payload["text"], end="")
        case "done":
            show("")
            return True
        case "error":
            show("")
            raise from_code(payload["error"]["code"], payload["error"]["message"])
    return False


async def _over_websocket(url: str, headers: dict[str, str], body: dict[str, Any]) -> None:
    parts = urlsplit(url)
    target = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/v1/ws"
    try:
        async with trio_websocket.open_websocket_url(
            target, extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()]
        ) as socket:
            await socket.send_message(json.dumps({"op": "generate", **body}))
            while True:
                payload = json.loads(await socket.get_message())
                if _show(payload["event"], payload):
                    return
    except trio_websocket.ConnectionRejected as error:
        raise _rejected(error) from error
    except (trio_websocket.HandshakeError, trio_websocket.ConnectionClosed, OSError) as error:
        raise Unavailable(f"no node answers at {target}: {str(error) or type(error).__name__}") from error


def _rejected(error: trio_websocket.ConnectionRejected) -> LlmactorsError:
    try:
        found = json.loads(error.body or b"")["error"]
        return from_code(found["code"], found["message"])
    except (TypeError, ValueError, KeyError):
        return Unavailable(f"the node refused the WebSocket with status {error.status_code}")
