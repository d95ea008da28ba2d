"""What our own server's answers must hold. Pure.

Each token once, in order, under the seq that follows the last one's, all of one request, and then one `done` that
counts as many. Nothing after it.
"""

from collections import Counter
from typing import Any

import attrs
import msgspec

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.load.answer import Answer, Malformed
from llmactors.load.frames import SocketAnswer
from llmactors.load.http1 import Body
from llmactors.load.plan import Check, Plan
from llmactors.load.reading import Reading


class _Event(msgspec.Struct):
    id: str = ""
    seq: int = 0
    event: str = ""
    text: str = ""
    finish_reason: str = ""
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None


class _Whole(msgspec.Struct):
    id: str
    text: str
    finish_reason: str
    usage: dict[str, int]


_decode = msgspec.json.Decoder(_Event).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


@attrs.define
class _Course:
    """How far an answer has come."""

    plan: Plan
    base: int
    """Of the oracle."""
    request_id: str
    times: list[float] = attrs.field(factory=list)
    per_chunk: Counter[int] = attrs.field(factory=Counter)
    done: bool = False

    @classmethod
    def of(cls, plan: Plan, index: int, request_id: str) -> "_Course":
        return cls(plan, sequence_hash(plan.prompt_of(index), index), request_id)

    def take(self, name: str, event: _Event, when: float, chunk: int) -> None:
        if self.done:
            raise Malformed("event_after_end", f"{name} {event.seq}")
        seq = len(self.times) + 1
        if name == "error":
            error = event.error or {}
            raise Malformed("stream_error", f"after {seq - 1} tokens: {error}", code=str(error.get("code", "")))
        if event.seq != seq:
            raise Malformed("wrong_seq", f"{name} {event.seq} where {seq} had to come")
        if event.id != self.request_id:
            raise Malformed("wrong_id", f"{event.id} in the answer of {self.request_id}")
        if name == "token":
            if self.plan.check is Check.MOCK and event.text != token_of(self.base, seq).text:
                raise Malformed("wrong_token", f"seq {seq}: {event.text!r}, not {token_of(self.base, seq).text!r}")
            self.per_chunk[chunk] += 1
            self.times.append(when)
        elif name == "done":
            self.done = True
            check_end(self.plan, len(self.times), event.finish_reason, event.usage)
        else:
            raise Malformed("unknown_event", repr(name))

    def reading(self) -> Reading:
        if not self.done:
            raise Malformed("no_end", f"after {len(self.times)} tokens")
        return Reading(len(self.times), self.times, list(self.per_chunk.values()))


def check_end(plan: Plan, tokens: int, finish_reason: str | None, usage: dict[str, int] | None) -> None:
    """The end of an answer of so many tokens. Raises `Malformed`."""
    if finish_reason == "cancelled":
        raise Malformed("cancelled", f"after {tokens} tokens")
    if usage is not None and usage.get("completion_tokens") != tokens:
        raise Malformed("wrong_usage", f"{usage} for {tokens} tokens")
    if not tokens or tokens > plan.max_tokens or (plan.check is Check.MOCK and tokens != plan.max_tokens):
        raise Malformed("wrong_length", f"{tokens} tokens")


def read_stream(plan: Plan, answer: Answer, body: Body, request_id: str) -> Reading:
    """A stream of server-sent events. Raises `Malformed`."""
    course = _Course.of(plan, answer.index, request_id)
    end = 0
    *blocks, rest = body.data.split(b"\n\n")
    if rest:
        raise Malformed("cut_event", repr(rest[:80]))
    for block in blocks:
        end += len(block) + 2
        if block.startswith(b":"):
            continue
        name, event = _parse(block)
        if not course.request_id:
            course.request_id = event.id
        chunk, raw_end = body.place(end)
        course.take(name, event, answer.arrival(raw_end), chunk)
    return course.reading()


def _parse(block: bytes) -> tuple[str, _Event]:
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
    try:
        event = _decode(fields[b"data"])
        # As a WebSocket's messages do, an event may name itself: for servers whose events have no id and no such name.
        name = event.event or fields[b"event"].decode()
    except (KeyError, UnicodeError, msgspec.DecodeError) as error:
        raise Malformed("malformed_event", f"{block[:200]!r}: {error}") from None
    if b"id" in fields and fields[b"id"] != b"%d" % event.seq:
        raise Malformed("wrong_seq", f"id {fields[b'id']!r} of event {event.seq}")
    if b"id" not in fields and name != "error" and not event.event:
        raise Malformed("wrong_seq", f"{name} {event.seq} has no id: it cannot be resumed after")
    return name, event


def read_socket(plan: Plan, answer: SocketAnswer) -> Reading:
    """The messages of a WebSocket. Raises `Malformed`."""
    course = _Course.of(plan, answer.index, "")
    for frame in answer.texts:
        text = answer.data[frame.begin : frame.end]
        try:
            event = _decode(text)
        except (UnicodeError, msgspec.DecodeError) as error:
            raise Malformed("malformed_event", f"{bytes(text[:200])!r}: {error}") from None
        if not course.request_id:
            if event.event == "error":
                code = str((event.error or {}).get("code", ""))
                raise Malformed("refused", str(event.error), code=code, refusal=True)
            if event.event != "accepted" or not event.id:
                raise Malformed("unknown_event", repr(bytes(text[:200])))
            course.request_id = event.id
            continue
        read = answer.read_of(frame.end)
        course.take(event.event, event, answer.read_times[read], read)
    return course.reading()


def read_whole(plan: Plan, answer: Answer, body: Body) -> Reading:
    """An answer in one JSON object. Raises `Malformed`."""
    try:
        whole = _decode_whole(body.data)
    except (UnicodeError, msgspec.DecodeError) as error:
        raise Malformed("malformed_event", f"{body.data[:200]!r}: {error}") from None
    tokens = whole.usage.get("completion_tokens", 0)
    check_end(plan, tokens, whole.finish_reason, whole.usage)
    check_text(plan, plan.prompt_of(answer.index), answer.index, whole.text)
    return Reading(tokens, [], [])


def check_text(plan: Plan, prompt: str, seed: int, text: str) -> None:
    """Where the mock answers: the text of the whole answer to `prompt`. Raises `Malformed`."""
    if plan.check is Check.MOCK:
        base = sequence_hash(prompt, seed)
        at = 0
        for seq in range(1, plan.max_tokens + 1):
            token = token_of(base, seq).text
            if not text.startswith(token, at):
                raise Malformed("wrong_token", f"seq {seq}: {text[at : at + 20]!r}, not {token!r}")
            at += len(token)
        if at != len(text):
            raise Malformed("wrong_length", f"{text[at : at + 80]!r} after the last token")
