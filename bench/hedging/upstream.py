"""An upstream with OpenAI's completions on a real socket, whose first tokens come late.

The answer to a prompt counts its own words, `w0 w1 w2 …`, and goes on behind the words that the prompt has already. So
a caller sees a word that is missing or comes twice.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import trio

WORDS = 20
STEP_S = 0.02
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def word(place: int) -> str:
    """The word of an answer at this place."""
    return f"w{place} "


@attrs.define(eq=False)
class SlowUpstream:
    """One upstream.

    Args:
        first_s: Returns how long the next answer takes to its first token.
    """

    first_s: Callable[[], float]
    url: str = ""
    asked: int = 0
    """How many answers were asked for."""
    whole: int = 0
    """How many answers were sent to their end. The others were given up by whoever asked."""

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                held = b""
                while True:
                    body, held = await _read(stream, held)
                    if body is None:
                        return
                    if body:
                        await self._answer(stream, body)
                    else:
                        await stream.send_all(_NOT_FOUND)

    async def _answer(self, stream: trio.SocketStream, body: dict[str, Any]) -> None:
        self.asked += 1
        await stream.send_all(_HEAD)
        await _wait(stream, self.first_s())
        begun = body["prompt"].count("w")
        for place in range(begun, begun + body["max_tokens"]):
            await stream.send_all(_event({"choices": [{"index": 0, "text": word(place), "finish_reason": None}]}))
            await _wait(stream, STEP_S)
        usage = {"prompt_tokens": 1 + begun, "completion_tokens": body["max_tokens"]}
        await stream.send_all(_event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}))
        await stream.send_all(_event({"choices": [], "usage": usage}) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        self.whole += 1


@contextlib.asynccontextmanager
async def serving(*upstreams: SlowUpstream) -> AsyncIterator[None]:
    """Serves all of these until the block ends."""
    async with trio.open_nursery() as nursery:
        for each in upstreams:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            each.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
            nursery.start_soon(trio.serve_listeners, each.serve, listeners)
        yield
        nursery.cancel_scope.cancel(reason="the measurement is over")


async def _read(stream: trio.SocketStream, held: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """The body of the next request, empty for a GET, and what came behind it; None at the end of the connection."""
    while b"\r\n\r\n" not in held:
        data = await stream.receive_some(65536)
        if not data:
            return None, b""
        held += data
    head, _, rest = held.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length")), 0)
    while len(rest) < length:
        data = await stream.receive_some(65536)
        if not data:
            return None, b""
        rest += data
    return json.loads(rest[:length] or b"{}"), rest[length:]


async def _wait(stream: trio.SocketStream, seconds: float) -> None:
    """Waits. Raises `trio.BrokenResourceError` as soon as the other side hangs up."""
    with trio.move_on_after(seconds):
        if not await stream.receive_some(1):
            raise trio.BrokenResourceError


def _event(body: dict[str, Any]) -> bytes:
    return _chunk(b"data: " + json.dumps(body).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
