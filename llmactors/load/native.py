"""The check of answers from this project's own routes. Pure.

A right answer has each token once, in order, under the seq that follows the last one's, all with the id of one request;
then one `done` event, whose usage counts as many tokens; and nothing after that. `queued` events may come in between.
"""

from collections import Counter
from typing import Any

import attrs
import msgspec

from llmactors.backends.mock.oracle import sequence_hash, token_of
from llmactors.http.sse_reader import SseEvent
from llmactors.load.http_recording import HttpReplay
from llmactors.load.plan import Check, Plan
from llmactors.load.recording import Malformed, Recording
from llmactors.load.socket_recording import SocketRecording
from llmactors.load.token_times import TokenTimes


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
class _TokenCheck:
    """The check of one answer, event by event."""

    plan: Plan
    base: int
    """The number from which the simulated backend makes its tokens."""
    request_id: str
    times: list[float] = attrs.field(factory=list)
    per_chunk: Counter[int] = attrs.field(factory=Counter)
    done: bool = False

    @classmethod
    def of(cls, plan: Plan, index: int, request_id: str) -> "_TokenCheck":
        return cls(plan, sequence_hash(plan.prompt_of(index), index), request_id)

    def take(self, name: str, event: _Event, when: float, chunk: int) -> None:
        if self.done:
            raise Malformed("event_after_end", f"{name} {event.seq}")
        if name == "queued":
            return  # tells a waiting client its place, and is no part of the answer
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

    def token_times(self) -> TokenTimes:
        if not self.done:
            raise Malformed("no_end", f"after {len(self.times)} tokens")
        return TokenTimes(len(self.times), self.times, list(self.per_chunk.values()))


def check_end(plan: Plan, tokens: int, finish_reason: str | None, usage: dict[str, int] | None) -> None:
    """Checks what the end of an answer of so many tokens says. Raises `Malformed`."""
    if finish_reason == "cancelled":
        raise Malformed("cancelled", f"after {tokens} tokens")
    if usage is not None and usage.get("completion_tokens") != tokens:
        raise Malformed("wrong_usage", f"{usage} for {tokens} tokens")
    if not tokens or tokens > plan.max_tokens or (plan.check is Check.MOCK and tokens != plan.max_tokens):
        raise Malformed("wrong_length", f"{tokens} tokens")


def read_stream(plan: Plan, recording: Recording, replay: HttpReplay) -> TokenTimes:
    """Checks a stream of server-sent events. Raises `Malformed`."""
    check = _TokenCheck.of(plan, recording.index, replay.head.headers.get("x-request-id", ""))
    for event, time, chunk in replay.events():
        name, parsed = _parse(event)
        if not check.request_id:
            check.request_id = parsed.id
        check.take(name, parsed, time, chunk)
    return check.token_times()


def _parse(event: SseEvent) -> tuple[str, _Event]:
    try:
        parsed = _decode(event.data)
    except (UnicodeError, msgspec.DecodeError) as error:
        raise Malformed("malformed_event", f"{event.data[:200]!r}: {error}") from None
    # The JSON of an event may have the event's name, as in a WebSocket's messages: some servers send neither ids nor
    # names.
    name = parsed.event or event.name
    if event.id is not None and event.id != str(parsed.seq):
        raise Malformed("wrong_seq", f"id {event.id!r} of event {parsed.seq}")
    if event.id is None and name not in {"error", "queued"} and not parsed.event:
        raise Malformed("wrong_seq", f"{name} {parsed.seq} has no id: a client cannot resume after it")
    return name, parsed


def read_socket(plan: Plan, recording: SocketRecording) -> TokenTimes:
    """Checks the messages of a WebSocket. Raises `Malformed`."""
    check = _TokenCheck.of(plan, recording.index, "")
    for frame in recording.texts:
        text = recording.data[frame.begin : frame.end]
        try:
            event = _decode(text)
        except (UnicodeError, msgspec.DecodeError) as error:
            raise Malformed("malformed_event", f"{bytes(text[:200])!r}: {error}") from None
        if not check.request_id:
            if event.event == "error":
                code = str((event.error or {}).get("code", ""))
                raise Malformed("refused", str(event.error), code=code, refusal=True)
            if event.event != "accepted" or not event.id:
                raise Malformed("unknown_event", repr(bytes(text[:200])))
            check.request_id = event.id
            continue
        read = recording.read_of(frame.end)
        check.take(event.event, event, recording.read_times[read], read)
    return check.token_times()


def read_whole(plan: Plan, recording: Recording, replay: HttpReplay) -> TokenTimes:
    """Checks an answer in one JSON object. Raises `Malformed`."""
    body = replay.body
    try:
        whole = _decode_whole(body)
    except (UnicodeError, msgspec.DecodeError) as error:
        raise Malformed("malformed_event", f"{body[:200]!r}: {error}") from None
    tokens = whole.usage.get("completion_tokens", 0)
    check_end(plan, tokens, whole.finish_reason, whole.usage)
    check_text(plan, plan.prompt_of(recording.index), recording.index, whole.text)
    return TokenTimes(tokens, [], [])


def check_text(plan: Plan, prompt: str, seed: int, text: str) -> None:
    """Checks the text of a whole answer to `prompt`, where the simulated backend answers. Raises `Malformed`."""
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
