"""A streaming client of OpenAI's completions, for servers of a real model. Every answer is greedy.

`POST /v1/completions` exists in llmactors and in llama.cpp's own server, so both are asked with the same bytes.
"""

import json
from collections.abc import Callable
from typing import Any

import attrs
import trio

from bench.servers import RunningServer
from llmactors.http.client import ClientSettings, HttpClient
from llmactors.http.sse_reader import SseReader

MODEL = "m"
"""The name under which llmactors serves the model. llama.cpp's server ignores the name."""
GREEDY = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "cache_prompt": False}
"""The most probable token each time, and every prompt read anew.

These are the parameters that llmactors sends to llama.cpp for a greedy answer, so that llama.cpp does the same work
behind both servers. The route of llmactors ignores the parameters that OpenAI does not have.
"""
_END = b"[DONE]"
_CONNECTION_PER_REQUEST = ClientSettings(max_idle=0)
"""llama.cpp's server closes connections that its response promised to keep."""


@attrs.frozen
class Endpoint:
    """The address of a server, and the key that the server asks for."""

    url: str
    key: str

    @classmethod
    def of(cls, server: RunningServer) -> "Endpoint":
        """The endpoint of a server that runs."""
        return cls(server.url, server.key or "none")


@attrs.frozen
class Completion:
    """One complete answer."""

    first_token_s: float
    """From the request to the first event."""
    tokens: int
    text: str


async def complete(
    endpoint: Endpoint, prompt: str, max_tokens: int, on_read: Callable[[], None] = lambda: None
) -> Completion:
    """Ask for one completion and read the stream to the end. `on_read` is called whenever bytes of the stream arrive.

    Raises:
        RuntimeError: The server refused the request, or ended the stream too early.
        HttpClientError: The connection could not be opened, or broke.
    """
    body = {"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, "stream": True, **GREEDY}
    content = json.dumps({**body, "stream_options": {"include_usage": True}}).encode()
    authorization = ("Authorization", f"Bearer {endpoint.key}")
    client = HttpClient(endpoint.url, headers=[authorization], settings=_CONNECTION_PER_REQUEST)
    begun = trio.current_time()
    first_token_s: float | None = None
    reader = SseReader()
    chunks: list[dict[str, Any]] = []
    complete = False
    headers = [("Content-Type", "application/json")]
    async with await client.open("POST", "/v1/completions", content, headers) as response:
        if response.status != 200:
            raise RuntimeError(f"{endpoint.url} answered {response.status}: {(await response.read())[:300]!r}")
        while not complete:
            if not (piece := await response.receive()):
                raise RuntimeError(
                    f"{endpoint.url} ended the stream after {len(chunks)} events, before {_END.decode()}"
                )
            events = reader.feed(piece)
            if events and first_token_s is None:
                first_token_s = trio.current_time() - begun
            on_read()
            complete = any(event.data == _END for event in events)
            chunks += [json.loads(event.data) for event in events if event.data != _END]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    [tokens] = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    assert first_token_s is not None  # the stream had at least one event
    return Completion(first_token_s, tokens, text)
