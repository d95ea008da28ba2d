"""An OpenAI-compatible upstream on a real socket that does what a test says, including what no server should do."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import h11
import trio

WORDS = ("one ", "two ", "three ", "four ")


def sse(item: Any) -> bytes:
    """One SSE event with `item` as JSON, or with bytes as they are."""
    return b"data: " + (item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n\n"


def text(piece: str, *, chat: bool = True) -> bytes:
    """A chunk that carries a piece of text."""
    choice = {"index": 0, "delta": {"content": piece}} if chat else {"index": 0, "text": piece}
    return sse({"choices": [choice | {"finish_reason": None}], "usage": None})


def ending(reason: str = "length", completion_tokens: int = len(WORDS)) -> list[bytes]:
    """The last chunks of an answer: the finish reason, the usage, and `[DONE]`."""
    usage = {"prompt_tokens": 7, "completion_tokens": completion_tokens}
    return [
        sse({"choices": [{"index": 0, "delta": {}, "text": "", "finish_reason": reason}], "usage": None}),
        sse({"choices": [], "usage": usage}),
        sse(b"[DONE]"),
    ]


@attrs.define(eq=False)
class Hit:
    """One request that the upstream received, and the means to answer it."""

    target: str
    body: dict[str, Any]
    headers: dict[str, str]
    stream: trio.SocketStream
    parser: h11.Connection
    closed_by_peer: trio.Event = attrs.field(factory=trio.Event)

    async def send(self, *events: h11.Event) -> None:
        for event in events:
            await self.stream.send_all(self.parser.send(event) or b"")

    async def head(self, status: int = 200, *headers: tuple[str, str], kind: str = "text/event-stream") -> None:
        await self.send(
            h11.Response(
                status_code=status,
                headers=[("Content-Type", kind), ("Transfer-Encoding", "chunked"), *headers],
            )
        )

    async def data(self, *pieces: bytes) -> None:
        await self.send(*[h11.Data(data=piece) for piece in pieces])

    async def refuse(self, status: int, *headers: tuple[str, str], error: Any = None) -> None:
        await self.head(status, *headers, kind="application/json")
        await self.data(json.dumps({"error": error or {"message": "no"}}).encode())
        await self.end()

    async def end(self) -> None:
        await self.send(h11.EndOfMessage())

    async def wait_closed(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await self.stream.receive_some(1000):
                pass
        self.closed_by_peer.set()

    @property
    def chat(self) -> bool:
        return self.target.endswith("/chat/completions")

    async def words(self, words: tuple[str, ...] = WORDS) -> None:
        await self.data(*[text(word, chat=self.chat) for word in words])


Behaviour = Callable[[Hit], Awaitable[None]]
"""Answers one request."""


async def good(hit: Hit) -> None:
    """Answers with the last `max_tokens` words, as if the prompt contained the words before them."""
    await hit.head()
    left = hit.body["max_tokens"]
    await hit.words(WORDS[-left:])
    await hit.data(*ending(completion_tokens=left))
    await hit.end()


@attrs.define(eq=False)
class FaultyUpstream:
    """A server whose n-th request gets the n-th of `behaviours`; later requests get the last one."""

    behaviours: list[Behaviour]
    hits: list[Hit] = attrs.field(factory=list)
    url: str = ""
    models_status: int = 404
    """The status of the list of models."""
    connections: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection: a handler for `trio.serve_listeners`."""
        self.connections += 1
        parser = h11.Connection(h11.SERVER)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                while await self._one(stream, parser):
                    if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
                        return
                    parser.start_next_cycle()

    async def _one(self, stream: trio.SocketStream, parser: h11.Connection) -> bool:
        request, body = None, b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        if request.target == b"/v1/models":  # a probe asks for the list of models
            await Hit("", {}, {}, stream, parser).refuse(self.models_status)
            return True
        headers = {name.decode(): value.decode() for name, value in request.headers}
        hit = Hit(request.target.decode(), json.loads(body or b"{}"), headers, stream, parser)
        behaviour = self.behaviours[min(len(self.hits), len(self.behaviours) - 1)]
        self.hits.append(hit)
        await behaviour(hit)
        return True


@contextlib.asynccontextmanager
async def upstream(*behaviours: Behaviour) -> AsyncIterator[FaultyUpstream]:
    """Serves until the block ends, with the behaviour `good` if none is given."""
    async with trio.open_nursery() as nursery:
        server = FaultyUpstream(list(behaviours) or [good])
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel(reason="the test is over")
