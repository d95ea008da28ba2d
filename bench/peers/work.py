"""The work that each peer does, and how its answer looks: the mock's tokens as our SSE events. Standard library alone.

Peers run in environments of their own, without llmactors. A test holds these tokens against the mock's oracle.
"""

import argparse
import hashlib
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_WORD_LIST = """
acre alder amber ash bark basin birch bloom branch brook cedar clay cliff cloud coast coral
crane creek dawn delta dune dusk elm ember fern field fjord flint fog frost gale glade
grove gull harbor hazel heath hill ivy jade lake lamp larch leaf marsh mist moon moss
oak opal pine pond rain reed ridge river sage shore sky snow stone storm tide willow
"""
_WORDS = tuple(" " + word for word in _WORD_LIST.split())
_HEX = tuple(f"{number:02x}" for number in range(256))
_MASK_64 = (1 << 64) - 1


class Job(NamedTuple):
    """One request, as far as the mock looks at it."""

    base: int
    max_tokens: int
    id: str

    @classmethod
    def read(cls, body: dict[str, object], request_id: str = "") -> "Job":
        """Of a decoded body. `request_id` is empty where the stack gives an answer no header of its own."""
        digest = hashlib.blake2b(f"{body.get('seed') or 0}\0{body['prompt']}".encode(), digest_size=8).digest()
        return cls(int.from_bytes(digest, "big"), int(str(body.get("max_tokens", 64))), request_id)


def token_text(base: int, seq: int) -> str:
    """Token `seq`, counted from 1."""
    mixed = (base + seq * 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    token = mixed >> 42
    return _WORDS[token >> 16] + _HEX[token >> 8 & 0xFF] + _HEX[token & 0xFF]


def token_data(job: Job, seq: int) -> str:
    """The JSON of one token. Its text needs no escaping."""
    return f'{{"event":"token","id":"{job.id}","seq":{seq},"text":"{token_text(job.base, seq)}"}}'


def done_data(job: Job) -> str:
    """The JSON of the end."""
    usage = f'{{"completion_tokens":{job.max_tokens}}}'
    return f'{{"event":"done","id":"{job.id}","seq":{job.max_tokens + 1},"finish_reason":"length","usage":{usage}}}'


def events(job: Job, seq: int) -> str:
    """What step `seq` adds to the answer, as SSE: a token, and with the last token the end."""
    event = f"id: {seq}\nevent: token\ndata: {token_data(job, seq)}\n\n"
    return event if seq < job.max_tokens else f"{event}id: {seq + 1}\nevent: done\ndata: {done_data(job)}\n\n"


class Model(NamedTuple):
    """How the simulated model behaves: one step makes a token for each of at most `slots` requests."""

    step_s: float
    slots: int

    @classmethod
    def parse(cls, text: str) -> "Model":
        """Of `mock:step_ms=20,slots=64`."""
        kind, _, options = text.partition(":")
        given = dict(option.split("=") for option in options.split(",") if option)
        if kind != "mock" or not given.keys() <= {"step_ms", "slots"}:
            raise ValueError(f"{text!r} is not of the form mock:step_ms=…,slots=…")
        return cls(float(given.get("step_ms", "0")) / 1000, int(given.get("slots", "64")))

    @property
    def window_s(self) -> float:
        """How long who batches statically waits for a batch to fill, which costs nothing once it is full.

        Long beside the time in which clients come all at once, so that it is never why a batch is torn; short for a
        model that takes no time.
        """
        return 50 * self.step_s or 0.005


class Pace:
    """When the steps of a batch are due: each a step after the one before, or at once where the server is late."""

    def __init__(self, step_s: float, now: float) -> None:
        self._step_s = step_s
        self._due = now

    def wait_s(self, now: float) -> float:
        """How long until the next step has been made."""
        self._due = max(self._due + self._step_s, now)
        return self._due - now


class Stream:
    """One request of a bare endpoint: what was made and is not sent yet."""

    def __init__(self, job: Job, wake: Callable[[], None]) -> None:
        self.job = job
        self.seq = 0
        self._ready: list[str] = []
        self._wake = wake
        """Is called when there is something to send."""

    def advance(self) -> bool:
        """One token more; False with the last one."""
        self.seq += 1
        self._ready.append(events(self.job, self.seq))
        self._wake()
        return self.seq < self.job.max_tokens

    def take(self) -> tuple[bytes, bool]:
        """What is to be sent now, and whether more will come."""
        data = "".join(self._ready).encode()
        self._ready.clear()
        return data, self.seq < self.job.max_tokens


class Slots:
    """Steps streams side by side, and lets others in as soon as a slot is free."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: deque[Stream] = deque()
        self._running: list[Stream] = []

    def add(self, stream: Stream) -> None:
        self._waiting.append(stream)

    def fill(self) -> bool:
        """Whether any stream runs now."""
        while self._waiting and len(self._running) < self._count:
            self._running.append(self._waiting.popleft())
        return bool(self._running)

    def step(self) -> None:
        """One token for each that runs."""
        self._running = [stream for stream in self._running if stream.advance()]


def arguments(about: str) -> argparse.Namespace:
    """`--bind` and `--model`, with `host`, `port` and a parsed `model`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bind", default="127.0.0.1:8000", help="HOST:PORT")
    parser.add_argument("--model", type=Model.parse, default=Model(0.0, 64), help="mock:step_ms=…,slots=…")
    given = parser.parse_args()
    given.host, _, port = given.bind.rpartition(":")
    given.port = int(port)
    return given
