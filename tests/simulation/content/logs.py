"""What Redis has of a request: its log, and the answer that the log stands for.

Redis is read with redis-py. The calls of an answer are found in its text in a simple way, which needs the whole text.
"""

import json
import re
import struct
from typing import Any

import attrs
import msgspec
import redis

from llmactors.ledger.redis.codec import decode_request
from llmactors.messages import GenerateRequest, TokenDelta
from llmactors.redislink.names import LedgerKey, RedisNames
from tests.simulation.content.answers import Answer, Call

_decode = msgspec.msgpack.decode
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@attrs.frozen
class RequestLog:
    """A request, and its log."""

    request: GenerateRequest
    deltas: tuple[TokenDelta, ...]
    end: tuple[Any, ...]
    """The terminal event as Redis has it; empty for none."""

    @property
    def reason(self) -> str:
        """Why the answer ended; the code of an error."""
        return str(self.end[1]) if self.end else ""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(delta.text for delta in self.deltas)

    def answer(self) -> Answer:
        """The answer that the log stands for. The ids of the calls are not known here."""
        extras = [delta.extra for delta in self.deltas if delta.extra is not None]
        found = [extra.logprob for extra in extras if extra.logprob is not None]
        logprobs = None
        if self.request.top_logprobs is not None:
            logprobs = [(each.utf8.decode("utf-8", "replace"), each.logprob) for each in found]
        text, calls = split_calls(self.text) if self.request.tools is not None else (self.text, [])
        for extra in extras:
            for part in extra.tool_calls:
                if part.name and part.index == len(calls):
                    calls.append(Call("", part.name))
                calls[part.index].arguments += part.arguments
        vectors = [list(struct.unpack(f"<{len(each.embedding) // 4}f", each.embedding)) for each in extras]
        return Answer(
            text=text,
            reasoning="".join(extra.reasoning for extra in extras),
            calls=calls,
            logprobs=logprobs,
            reason=self.reason,
            tokens=len(self.deltas),
            vectors=vectors if self.request.inputs else [],
        )


def read_log(client: "redis.Redis", names: RedisNames, request_id: str) -> RequestLog | None:
    """The request and its log; None where Redis does not have the request any more."""
    body: Any = client.get(names.ledger(LedgerKey.BODY, request_id))
    if body is None:
        return None
    entries: Any = client.xrange(names.ledger(LedgerKey.LOG, request_id))
    deltas: list[TokenDelta] = []
    end: tuple[Any, ...] = ()
    for _, fields in entries:
        if b"t" in fields:
            deltas += msgspec.msgpack.decode(fields[b"t"], type=list[TokenDelta])
        if b"e" in fields:
            end = tuple(_decode(fields[b"e"]))
    return RequestLog(decode_request(body), tuple(deltas), end)


def split_calls(text: str) -> tuple[str, list[Call]]:
    """The text without its calls, and the calls, in the format of Hermes. The last call may be cut."""
    content, calls = "", list[Call]()
    while (at := text.find(_OPEN)) >= 0:
        content += text[:at].rstrip()
        rest = text[at + len(_OPEN) :].lstrip()
        try:
            call, size = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            # The answer was cut inside of a call: as much of its arguments as there is, if any, is in the call.
            if (cut := re.match(r'\{"name": "([^"]*)", "arguments": (.+)', rest, re.DOTALL)) is not None:
                calls.append(Call("", cut[1], cut[2]))
                return content, calls
            return content + text[at:], calls
        calls.append(Call("", call["name"], rest[rest.index("{", 1) : size - 1]))
        text = rest[size:].lstrip().removeprefix(_CLOSE).lstrip()
        if _CLOSE.startswith(text):
            text = ""  # the answer was cut inside of the tag
    return content + text, calls
