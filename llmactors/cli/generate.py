"""`generate`: one prompt to a running node, streamed to the terminal over SSE, or over a WebSocket."""

import json
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import trio
import trio_websocket
from cyclopts import Parameter

from llmactors.cli.client import API_KEY, URL, auth_headers, explain
from llmactors.cli.sse import Event, events
from llmactors.errors import LlmactorsError, Unavailable, from_code

RECONNECTS = 5
"""How often a cut connection is taken up again, from the last event seen."""


def command(
    prompt: Annotated[str | None, Parameter(help="What to ask; without it, standard input is read.")] = None,
    /,
    *,
    url: URL = "http://127.0.0.1:8000",
    api_key: API_KEY = None,
    model: Annotated[str | None, Parameter(help="Which of the node's models.")] = None,
    max_tokens: Annotated[int, Parameter(help="At most so many tokens.")] = 256,
    temperature: Annotated[float | None, Parameter(help="0 always takes the likeliest token.")] = None,
    seed: Annotated[int | None, Parameter(help="Makes sampling repeatable.")] = None,
    raw: Annotated[bool, Parameter(help="Without the model's chat template.")] = False,
    ws: Annotated[bool, Parameter(help="Over a WebSocket instead of SSE.")] = False,
) -> int:
    """Stream one answer from a running node to the terminal."""
    given = {"model": model, "temperature": temperature, "seed": seed, "raw": raw or None}
    body: dict[str, Any] = {"prompt": sys.stdin.read() if prompt is None else prompt, "max_tokens": max_tokens}
    body |= {name: value for name, value in given.items() if value is not None}
    if ws:
        trio.run(_over_websocket, url, auth_headers(api_key), body)
    else:
        _over_sse(url, auth_headers(api_key), body)
    return 0


def _over_sse(url: str, headers: dict[str, str], body: dict[str, Any]) -> None:
    request_id = last_id = ""
    reconnects = 0
    # Between two tokens of a busy node much time can pass; the node sends keep-alives every 15 s.
    with httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(10, read=60)) as client:
        while True:
            if request_id:
                stream = client.stream("GET", f"/v1/streams/{request_id}", headers={"Last-Event-ID": last_id})
            else:
                stream = client.stream("POST", "/v1/generate", json={**body, "stream": True})
            try:
                with stream as response:
                    if response.status_code == httpx.codes.NO_CONTENT:
                        return
                    if response.is_error:
                        response.read()
                        raise explain(response)
                    request_id = response.headers["x-request-id"]
                    for event in events(response.iter_bytes()):
                        last_id = event.id or last_id
                        if _show(event):
                            return
                raise httpx.RemoteProtocolError("the stream ended without its last event")
            except httpx.TransportError as error:
                reconnects += 1
                if not request_id or reconnects > RECONNECTS:
                    raise Unavailable(f"no node answers at {url}: {error}") from error
                time.sleep(0.2 * 2**reconnects)


def _show(event: Event) -> bool:
    """Prints one event; True for the last."""
    payload = json.loads(event.data)
    match event.name:
        case "token":
            print(payload["text"], end="", flush=True)
        case "done":
            print(flush=True)
            return True
        case "error":
            print(flush=True)
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
                if _show(Event(payload["event"], "", json.dumps(payload))):
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
