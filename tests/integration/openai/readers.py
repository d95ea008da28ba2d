"""How load generators read a stream: each way restated, with its quirks, so that none of them stumbles over ours.

`vllm bench serve` (vllm/benchmarks/lib/endpoint_request_func.py) takes what a read from the socket gives, strips it,
and splits what has come at empty lines. guidellm (guidellm/backends/openai) reads lines. Both want texts first and
usage in a chunk that has no choices.
"""

import codecs
import json
from collections.abc import Iterable
from typing import Any, Protocol

import attrs


@attrs.define
class Reading:
    """What a reader made of a stream."""

    texts: list[str] = attrs.field(factory=list)
    completion_tokens: int | None = None
    done: bool = False
    error: str = ""

    def take(self, chunk: dict[str, Any]) -> None:
        """One chunk."""
        if choices := chunk.get("choices"):
            [choice] = choices
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                self.texts.append(text)
        elif usage := chunk.get("usage"):
            self.completion_tokens = usage["completion_tokens"]


class Reader(Protocol):
    """Takes a stream as the socket gives it."""

    def __call__(self, reads: Iterable[bytes]) -> Reading: ...


def read_as_vllm_bench(reads: Iterable[bytes]) -> Reading:
    """Of each read the white space at both ends is lost. An event is whole with its empty line, or once it is JSON.

    Of an error it takes no notice: whatever began is a success.
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
    """Lines, of which one that is `data: [DONE]` is the end, and an error is a failure; comments are passed over."""
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
