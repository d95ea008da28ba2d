"""The work that each peer does: the tokens of the simulated backend, sent as the server-sent events of llmactors.

Only the standard library is imported, since peers run in environments without llmactors. A test compares these tokens
with those of the simulated backend.
"""

import argparse
import hashlib
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
    """The parts of a request that the tokens depend on."""

    base: int
    """A hash of seed and prompt, from which all tokens follow."""
    max_tokens: int
    id: str

    @classmethod
    def read(cls, body: dict[str, object], request_id: str = "") -> "Job":
        """The job of a decoded body. `request_id` is empty where a peer cannot send a header with the id."""
        digest = hashlib.blake2b(f"{body.get('seed') or 0}\0{body['prompt']}".encode(), digest_size=8).digest()
        return cls(int.from_bytes(digest, "big"), int(str(body.get("max_tokens", 64))), request_id)


def token_text(base: int, seq: int) -> str:
    """The text of token `seq`. The first token is 1."""
    mixed = (base + seq * 0x9E3779B97F4A7C15) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    token = mixed >> 42
    return _WORDS[token >> 16] + _HEX[token >> 8 & 0xFF] + _HEX[token & 0xFF]


def token_data(job: Job, seq: int) -> str:
    """The JSON of one token event. The text of a token needs no escaping."""
    return f'{{"event":"token","id":"{job.id}","seq":{seq},"text":"{token_text(job.base, seq)}"}}'


def done_data(job: Job) -> str:
    """The JSON of the event that ends an answer."""
    usage = f'{{"completion_tokens":{job.max_tokens}}}'
    return f'{{"event":"done","id":"{job.id}","seq":{job.max_tokens + 1},"finish_reason":"length","usage":{usage}}}'


def events(job: Job, seq: int) -> str:
    """The server-sent events of step `seq`: a token, and after the last token the end of the answer."""
    event = f"id: {seq}\nevent: token\ndata: {token_data(job, seq)}\n\n"
    return event if seq < job.max_tokens else f"{event}id: {seq + 1}\nevent: done\ndata: {done_data(job)}\n\n"


class Model(NamedTuple):
    """The simulated model. One step takes `step_s` and makes one token for each of at most `slots` requests."""

    step_s: float
    slots: int

    @classmethod
    def parse(cls, text: str) -> "Model":
        """Read a model string such as `mock:step_ms=20,slots=64`. Raises `ValueError` for another form."""
        kind, _, options = text.partition(":")
        given = dict(option.split("=") for option in options.split(",") if option)
        if kind != "mock" or not given.keys() <= {"step_ms", "slots"}:
            raise ValueError(f"{text!r} is not of the form mock:step_ms=…,slots=…")
        return cls(float(given.get("step_ms", "0")) / 1000, int(given.get("slots", "64")))

    @property
    def window_s(self) -> float:
        """How long a peer with static batches waits for a batch to fill. A full batch does not wait.

        A burst of clients arrives in less time than the window, so that a burst always becomes one batch. The window is
        short for a model that takes no time.
        """
        return 50 * self.step_s or 0.005


class StepSchedule:
    """The times at which steps are due: each one step after the step before, or at once where the server is late."""

    def __init__(self, step_s: float, now: float) -> None:
        self._step_s = step_s
        self._due = now

    def wait_s(self, now: float) -> float:
        """Seconds until the next step is complete."""
        self._due = max(self._due + self._step_s, now)
        return self._due - now


def arguments(about: str) -> argparse.Namespace:
    """The command line of a peer: `host` and `port` from `--bind`, `model` from `--model`, and `length`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--bind", default="127.0.0.1:8000", help="HOST:PORT")
    parser.add_argument("--model", type=Model.parse, default=Model(0.0, 64), help="mock:step_ms=…,slots=…")
    parser.add_argument(
        "--length", type=int, default=0, help="an upstream's answers end by themselves behind so many tokens"
    )
    given = parser.parse_args()
    given.host, _, port = given.bind.rpartition(":")
    given.port = int(port)
    return given
