"""What a load client expects of each answer, and what all answers together amount to. Pure: no sockets, no clock."""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec

from llmactors.backends.mock.oracle import sequence_hash, token_of

LAST_CHUNK = b"\r\n0\r\n\r\n"


@attrs.frozen
class Plan:
    """What to send, and the bounds on it."""

    host: str
    port: int
    clients: int
    requests: int
    max_tokens: int
    keep_alive: bool
    oracle: bool
    limit_s: float
    """The run is broken off after this."""
    stall_s: float
    """A request that receives nothing for this long has failed."""
    label: str = "bench"

    def prompt(self, index: int) -> str:
        return f"{self.label} {index}"

    def request(self, index: int) -> bytes:
        body = msgspec.json.encode(
            {"prompt": self.prompt(index), "seed": index, "max_tokens": self.max_tokens, "stream": True}
        )
        head = (
            "POST /v1/generate HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(() if self.keep_alive else ("Connection: close",)),
        )
        return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Malformed(Exception):
    """An answer is not what it must be. The first argument is the error class, the second says more."""


@attrs.define(eq=False)
class Answer:
    """The raw answer to one request, and when its bytes arrived."""

    index: int
    begun: float
    data: bytearray = attrs.field(factory=bytearray)
    read_ends: list[int] = attrs.field(factory=list)
    read_times: list[float] = attrs.field(factory=list)
    total: int | None = None
    """How long the answer will be with its head; 0 where it is chunked; None before the head is here."""
    closing: bool = False

    def feed(self, data: bytes, now: float) -> bool:
        """Takes in one read; True once the answer is complete."""
        self.data += data
        self.read_ends.append(len(self.data))
        self.read_times.append(now)
        if self.total is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.data[:end]).lower()
            self.closing = b"\r\nconnection: close" in head
            _, found, length = head.partition(b"\r\ncontent-length: ")
            self.total = end + 4 + int(length.split(b"\r\n")[0]) if found else 0
        return len(self.data) >= self.total if self.total else self.data.endswith(LAST_CHUNK)

    @property
    def ended(self) -> float:
        return self.read_times[-1]

    def arrival(self, offset: int) -> float:
        """When the first `offset` bytes were here."""
        return self.read_times[bisect.bisect_left(self.read_ends, offset)]


@attrs.define
class Body:
    """A chunked body, put together."""

    data: bytearray = attrs.field(factory=bytearray)
    chunk_ends: list[int] = attrs.field(factory=list)
    """Where each chunk ends in `data`."""
    raw_ends: list[int] = attrs.field(factory=list)
    """Where each chunk ends in the answer."""

    @classmethod
    def parse(cls, raw: bytes, begin: int) -> "Body":
        body = cls()
        while True:
            line_end = raw.find(b"\r\n", begin)
            try:
                size = int(raw[begin:line_end], 16)
            except ValueError:
                raise Malformed("malformed_chunk", repr(raw[begin : begin + 20])) from None
            begin = line_end + 2
            if raw[begin + size : begin + size + 2] != b"\r\n":
                raise Malformed("malformed_chunk", f"no line end after {size} bytes")
            if size == 0:
                if begin + 2 != len(raw):
                    raise Malformed("malformed_chunk", "bytes after the last chunk")
                return body
            body.data += raw[begin : begin + size]
            begin += size
            body.chunk_ends.append(len(body.data))
            body.raw_ends.append(begin)
            begin += 2

    def events(self) -> Iterator[tuple[bytes, int]]:
        """Each event, comments left out, and where it ends in `data`."""
        begin = 0
        while begin < len(self.data):
            end = self.data.find(b"\n\n", begin) + 2
            if end < 2:
                raise Malformed("cut_event", repr(bytes(self.data[begin : begin + 80])))
            if self.data[begin] != ord(":"):
                yield bytes(self.data[begin : end - 2]), end
            begin = end

    def place(self, end: int) -> tuple[int, int]:
        """Which chunk completes the first `end` bytes of `data`, and where in the answer that is."""
        chunk = bisect.bisect_left(self.chunk_ends, end)
        return chunk, self.raw_ends[chunk] - (self.chunk_ends[chunk] - end)


@attrs.define
class Tally:
    """What all answers together amount to."""

    correct: int = 0
    tokens: int = 0
    latency: list[float] = attrs.field(factory=list)
    ttft: list[float] = attrs.field(factory=list)
    token_gap: list[float] = attrs.field(factory=list)
    """Between the arrivals of consecutive tokens of a stream; 0 for tokens that came in one read."""
    read_gap: list[float] = attrs.field(factory=list)
    """Between consecutive reads that brought tokens of a stream."""
    per_chunk: list[float] = attrs.field(factory=list)
    arrivals: list[list[float]] = attrs.field(factory=list)
    """When each token of each answer came."""
    errors: Counter[str] = attrs.field(factory=Counter)
    examples: list[str] = attrs.field(factory=list)

    def fail(self, kind: str, detail: str) -> None:
        self.errors[kind] += 1
        if len(self.examples) < 5:
            self.examples.append(f"{kind}: {detail}"[:300])

    def add(self, plan: Plan, answer: Answer) -> None:
        """Checks one complete answer and counts it."""
        try:
            times, per_chunk = _check(plan, answer)
        except Malformed as error:
            self.fail(error.args[0], f"request {answer.index}: {error.args[1]}")
            return
        self.correct += 1
        self.tokens += len(times)
        self.latency.append(answer.ended - answer.begun)
        self.ttft.append(times[0] - answer.begun)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        self.token_gap.extend(gaps)
        self.read_gap.extend(gap for gap in gaps if gap > 0)
        self.per_chunk.extend(per_chunk)
        self.arrivals.append(times)

    def steady_gaps(self) -> list[float]:
        """As `token_gap`, but only while all streams run: after the last one's first token, before the first one ends.

        None where there is no such time, as in a closed loop.
        """
        begun = max((times[0] for times in self.arrivals), default=0.0)
        ended = min((times[-1] for times in self.arrivals), default=0.0)
        return [
            later - earlier
            for times in self.arrivals
            for earlier, later in itertools.pairwise(times)
            if begun <= earlier and later <= ended
        ]


def _check(plan: Plan, answer: Answer) -> tuple[list[float], list[int]]:
    """When each token arrived, and how many came per chunk. Raises `Malformed` unless the stream is exactly right."""
    raw = bytes(answer.data)
    head_end = raw.find(b"\r\n\r\n") + 4
    request_id = _check_head(raw, head_end)
    body = Body.parse(raw, head_end)
    base = sequence_hash(plan.prompt(answer.index), answer.index)
    times: list[float] = []
    per_chunk: Counter[int] = Counter()
    done = False
    for event, end in body.events():
        if done:
            raise Malformed("event_after_end", repr(event[:80]))
        seq = len(times) + 1
        name, payload = _parse_event(event, seq, request_id)
        if name == "token":
            if plan.oracle and payload["text"] != token_of(base, seq).text:
                raise Malformed("wrong_token", f"seq {seq}: {payload['text']!r}")
            chunk, raw_end = body.place(end)
            per_chunk[chunk] += 1
            times.append(answer.arrival(raw_end))
        elif name == "done":
            done = True
            if payload["usage"]["completion_tokens"] != len(times):
                raise Malformed("wrong_usage", str(payload))
        else:
            raise Malformed(f"event_{name}", str(payload))
    if not done:
        raise Malformed("no_done", f"after {len(times)} tokens")
    if not times or (plan.oracle and len(times) != plan.max_tokens):
        raise Malformed("wrong_length", f"{len(times)} tokens")
    return times, list(per_chunk.values())


def _check_head(raw: bytes, end: int) -> str:
    """The request id."""
    status_line, *lines = raw[: end - 4].split(b"\r\n")
    status = status_line.split()[1].decode()
    if status != "200":
        raise Malformed(f"http_{status}", raw[end : end + 200].decode(errors="replace"))
    headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    if headers.get(b"transfer-encoding") != b"chunked":
        raise Malformed("not_a_stream", repr(headers))
    return headers.get(b"x-request-id", b"").decode()


def _parse_event(event: bytes, seq: int, request_id: str) -> tuple[str, dict[str, Any]]:
    fields = dict(line.split(b": ", 1) for line in event.split(b"\n"))
    payload = msgspec.json.decode(fields[b"data"])
    name = fields[b"event"].decode()
    if name != "error" and not (int(fields[b"id"]) == payload["seq"] == seq):
        raise Malformed("wrong_seq", f"expected {seq}: {event[:80]!r}")
    if payload["id"] != request_id:
        raise Malformed("wrong_id", f"{payload['id']} in the answer of {request_id}")
    return name, payload


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Exact, by nearest rank; empty where there is nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    at = {name: ordered[math.ceil(share * len(ordered)) - 1] for name, share in SHARES.items()}
    return {"mean": math.fsum(ordered) / len(ordered), **at, "max": ordered[-1]}


SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
