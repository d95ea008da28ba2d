"""Clients of the WebSocket: several streams on one socket, a cancel, and a new socket after a cut."""

import json
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket

from bench.soak.asking import PATIENCE_S, SILENCE_S, Asker
from bench.soak.requests import text_of

KIND = "WebSocket streams"
STREAMS = 3
CANCEL_AT = 3
"""After so many tokens the client cancels the first of its streams."""
_CLOSED = (trio_websocket.ConnectionClosed, trio_websocket.HandshakeError, OSError, trio.TooSlowError)


@attrs.define
class SocketStream:
    """One request of a socket, and what came of the request's answer."""

    ref: int
    prompt: str
    max_tokens: int
    cancels: bool
    """Whether the client cancels the request after a few tokens."""
    id: str = ""
    texts: list[str] = attrs.field(factory=list)
    is_over: bool = False


async def socket_streams(asker: Asker) -> None:
    """Several streams on one socket. After a cut the client attaches to them on a new socket."""
    streams = [
        SocketStream(ref, f"socket {asker.rng.getrandbits(48):x}", asker.rng.randint(4, 40), cancels=ref == 0)
        for ref in range(STREAMS)
    ]
    with trio.move_on_after(PATIENCE_S):
        while not all(stream.is_over for stream in streams):
            try:
                await _read_socket(asker, streams)
            except _CLOSED:
                asker.tally.cuts[KIND] += 1
                await trio.sleep(asker.rng.uniform(0.1, 1.0))
    for stream in streams:
        if not stream.is_over:
            asker.tally.complain(asker.tally.lost, KIND, f"{stream.id or stream.prompt} did not end")


async def _read_socket(asker: Asker, streams: list[SocketStream]) -> None:
    """Open a socket, ask for all streams that are not over, and read until they are. Raises one of `_CLOSED`."""
    url = f"ws://{urlsplit(asker.url()).netloc}/v1/ws"
    async with trio_websocket.open_websocket_url(url, connect_timeout=SILENCE_S, disconnect_timeout=1) as socket:
        for stream in streams:
            if not stream.is_over:
                await socket.send_message(json.dumps(_wish(stream)))
        while not all(stream.is_over for stream in streams):
            with trio.fail_after(SILENCE_S):
                event = json.loads(await socket.get_message())
            if cancel := _take(asker, streams, event):
                await socket.send_message(json.dumps(cancel))


def _wish(stream: SocketStream) -> dict[str, Any]:
    if stream.id:
        return {"op": "attach", "id": stream.id, "after": len(stream.texts), "ref": stream.ref}
    return {"op": "generate", "prompt": stream.prompt, "max_tokens": stream.max_tokens, "ref": stream.ref}


def _take(asker: Asker, streams: list[SocketStream], event: dict[str, Any]) -> dict[str, Any] | None:
    """Record an event; return the message that cancels a stream, where that is due.

    Raises:
        trio.TooSlowError: The gateway cannot serve a stream now, so the client has to come again.
    """
    match event:
        case {"event": "accepted", "ref": ref, "id": str(found)}:
            streams[ref].id = found
        case {"event": "cancelled"}:
            pass
        case {"event": "ended", "ref": ref}:
            # The client has not seen the terminal event of a stream that it attaches to, so there must be one.
            asker.tally.complain(asker.tally.lost, KIND, f"{event} before the terminal event")
            streams[ref].is_over = True
        case {"event": "error", "error": {"code": str(code)}} if "seq" not in event:
            asker.tally.refuse(KIND, 503 if code == "UNAVAILABLE" else 429, code)
            raise trio.TooSlowError
        case {"id": found, "seq": int(seq)} if mine := [each for each in streams if each.id == found]:
            return _take_logged(asker, mine[0], event, seq)
        case _:
            asker.tally.complain(asker.tally.wrong, KIND, f"unexpected event {event}")
    return None


def _take_logged(asker: Asker, stream: SocketStream, event: dict[str, Any], seq: int) -> dict[str, Any] | None:
    """Record an event of the log of a stream; return the message that cancels the stream, where that is due."""
    tally, seen = asker.tally, len(stream.texts)
    if seq != seen + 1 or stream.is_over:
        tally.complain(tally.repeated if seq <= seen else tally.lost, KIND, f"{event} after {seen} tokens")
        stream.is_over = True
    elif event["event"] == "token":
        stream.texts.append(event["text"])
        if stream.cancels and len(stream.texts) == CANCEL_AT:
            return {"op": "cancel", "id": stream.id}
    else:
        stream.is_over = True
        if event["event"] == "error":
            tally.refuse(KIND, 500, event["error"]["code"])
        else:
            answer = text_of(stream.prompt, stream.max_tokens)
            tally.judge_text(KIND, "".join(stream.texts), answer, whole=not stream.cancels)
    return None
