"""Models of how load generators read a stream, with their quirks, for tests that they read our streams.

`vllm bench serve` (vllm/benchmarks/lib/endpoint_request_func.py) strips the bytes of each read from the socket, and
splits the received text at empty lines. guidellm (guidellm/backends/openai) reads lines. Both expect the texts first,
and the usage in a chunk without choices.
"""

import codecs
import json
from collections.abc import Iterable
from typing import Any, Protocol

import attrs


@attrs.define
class Reading:
    """The result of reading a stream."""

    texts: list[str] = attrs.field(factory=list)
    completion_tokens: int | None = None
    done: bool = False
    error: str = ""

    def take(self, chunk: dict[str, Any]) -> None:
        """Counts one chunk."""
        if choices := chunk.get("choices"):
            [choice] = choices
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                self.texts.append(text)
        elif usage := chunk.get("usage"):
            self.completion_tokens = usage["completion_tokens"]


class Reader(Protocol):
    """Reads a stream from the results of reads from the socket."""

    def __call__(self, reads: Iterable[bytes]) -> Reading: ...


def read_as_vllm_bench(reads: Iterable[bytes]) -> Reading:
    """Strips white space at both ends of each read. An event ends with its empty line, or once its data is valid JSON.

    The reader ignores errors: every stream that began is a success.
    """
    reading = Reading()
    decode = codecs.getincrementaldecoder("utf-8")().decode
    rest = ""
    for read in reads:
        rest += decode(read.strip())
        events = []
        while "\n\n" in rest:
            event, _, rest = rest.partition("\n\n")
            events.append(event.strip())
        if rest.startswith("data: ") and _is_whole(rest.removeprefix("data: ")):
            events.append(rest)
            rest = ""
        for event in filter(None, events):
            if event.startswith(":"):
                continue
            data = event.removeprefix("data: ")
            if data == "[DONE]":
                reading.done = True
            else:
                reading.take(json.loads(data))
    return reading


def read_as_guidellm(reads: Iterable[bytes]) -> Reading:
    """Reads lines. The line `data: [DONE]` is the end, an error is a failure, and comments are ignored."""
    reading = Reading()
    rest = b""
    for read in reads:
        *lines, rest = (rest + read).split(b"\n")
        for raw in lines:
            line = raw.decode().strip()
            if line == "data: [DONE]":
                reading.done = True
                return reading
            if line.startswith("data:"):
                chunk = json.loads(line.removeprefix("data:").strip())
                if "error" in chunk:
                    reading.error = str(chunk["error"]["message"])
                    return reading
                reading.take(chunk)
    return reading


def _is_whole(data: str) -> bool:
    if data == "[DONE]":
        return True
    try:
        json.loads(data)
    except ValueError:
        return False
    return True
