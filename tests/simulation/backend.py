"""A backend whose every answer is another one, and whose tokens show whether they belong together.

Each token is a random word and a check over the token before and this word: a client that has all tokens of an answer
sees whether one writer after the other continued it, or two wrote beside each other. Words of a prompt make the backend
stall, crash, or take its whole process along.
"""

import random
import zlib
from collections.abc import Sequence
from typing import Any

import attrs
import trio

from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.build import ServedModel
from llmactors.backends.mock.oracle import mock_prompt_tokens
from llmactors.messages import TokenDelta

STALLS, CRASHES, KILLS, LONG = "stalls", "crashes", "kills", "long"
"""Words of prompts. A prompt that stalls gets no token at all; one with `long` gets long tokens."""
FAULT_AT = 2
"""How many tokens an attempt makes before it crashes or kills."""
LONG_CHARS = 960
_STALL_STEP_S = 0.02


class PlannedCrash(Exception):
    """A crash that the prompt of a request causes."""


@attrs.define(eq=False)
class Bench:
    """What all backends of a simulation have in common."""

    rng: random.Random
    kill_process: Any = None
    """Kills the process whose task calls this. Set by the world."""
    host_of: Any = None
    """Returns the host whose task calls this. Set by the world."""
    deaths: list[float] = attrs.field(factory=list)
    """When a prompt crashed a backend or a process."""
    holding: dict["ChainBackend", None] = attrs.field(factory=dict)
    """All backends that hold a sequence."""

    def still_held(self) -> list[str]:
        """The requests that backends of living processes hold."""
        return [key[0] for backend in self.holding if not backend.host.dead for key in backend.keys]


@attrs.define(eq=False)
class _Sequence:
    seed: int
    words: frozenset[str]
    last: str
    made: int
    left: int
    prompt_tokens: int


class ChainBackend:
    """A stepwise backend. `slots` and `step_s` are those of every model here."""

    def __init__(self, bench: Bench, slots: int, step_s: float, takeover: Takeover) -> None:
        self.capabilities = Capabilities(slots=slots, context_tokens=1 << 20, takeover=takeover)
        self.host = bench.host_of()
        self._bench = bench
        self._step_s = step_s
        self._sequences: dict[tuple[str, int], _Sequence] = {}

    def __repr__(self) -> str:
        return f"<ChainBackend {len(self._sequences)} sequences>"

    @property
    def keys(self) -> Sequence[tuple[str, int]]:
        """The sequences that are held."""
        return tuple(self._sequences)

    async def start(self) -> None:
        await trio.lowlevel.checkpoint()

    async def admit(self, job: Job) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self._sequences) >= self.capabilities.slots:
            raise RuntimeError(f"all {self.capabilities.slots} slots are taken")
        request = job.request
        self._bench.holding[self] = None
        self._sequences[job.key] = _Sequence(
            seed=request.seed or 0,
            words=frozenset(request.prompt.split()),
            last=job.tokens[-1].text if job.tokens else first_check(request.prompt, request.seed),
            made=0,
            left=request.max_tokens - len(job.tokens),
            prompt_tokens=mock_prompt_tokens(request.text),
        )

    async def step(self) -> list[Output]:
        going = [(key, each) for key, each in self._sequences.items() if STALLS not in each.words]
        await trio.sleep(self._step_s if going else _STALL_STEP_S)
        outputs = []
        for key, each in going:
            if key not in self._sequences:  # evicted while the step ran
                continue
            if each.made >= FAULT_AT:
                await self._fault(each)
            ends = each.left <= 1
            deltas = (self._next(each),) if each.left > 0 else ()
            if ends:
                self.evict(key)
            outputs.append(Output(key, deltas, "length" if ends else None, each.prompt_tokens if ends else 0))
        return outputs

    def _next(self, each: _Sequence) -> TokenDelta:
        word = f"{self._bench.rng.getrandbits(32):08x}"
        if LONG in each.words:
            word *= LONG_CHARS // len(word)
        each.last = f" {word}.{check_of(each.last, word)}"
        each.made += 1
        each.left -= 1
        return TokenDelta(int(word[:4], 16), each.last)

    async def _fault(self, each: _Sequence) -> None:
        if KILLS in each.words:
            self._bench.deaths.append(trio.current_time())
            self._bench.kill_process()
            await trio.sleep_forever()
        if CRASHES in each.words:
            self._bench.deaths.append(trio.current_time())
            raise PlannedCrash

    def evict(self, key: tuple[str, int]) -> None:
        self._sequences.pop(key, None)
        if not self._sequences:
            self._bench.holding.pop(self, None)

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        self._sequences.clear()
        self._bench.holding.pop(self, None)
        await trio.lowlevel.checkpoint()


def chain_model(name: str, bench: Bench, slots: int, step_s: float) -> ServedModel:
    """A model with such a backend: `fresh` cannot continue what another one began."""
    takeover = Takeover.RESTART if name == "fresh" else Takeover.CONTINUE
    return ServedModel(name, lambda: ChainBackend(bench, slots, step_s, takeover))


def first_check(prompt: str, seed: int | None) -> str:
    """What stands for the token before the first."""
    return f"{prompt}/{seed or 0}"


def check_of(last: str, word: str) -> str:
    """The check of a token: the token before it is `last`, and its own word is `word`."""
    return f"{zlib.crc32(f'{last}|{word}'.encode()):08x}"


def chain_answer(prompt: str, seed: int, seen: Sequence[str | None], length: int) -> list[str]:
    """The answer that the tokens `seen` are, as far as each continues the one before; `?` where none can be right.

    A token behind one that is missing can be any token.
    """
    found = []
    last: str | None = first_check(prompt, seed)
    for text in [*seen, *[None] * (length - len(seen))][:length]:
        word, _, check = (text or "").strip().rpartition(".")
        fits = text is not None and (last is None or check == check_of(last, word))
        found.append(text if fits and text is not None else "?")
        last = text
    return found
