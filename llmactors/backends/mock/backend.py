"""The simulated backend: deterministic answers, a time model, and faults on demand. The backend needs no model and no
CPU.

The answers are those of `oracle`, whichever token a takeover begins with. So every test and benchmark can tell a
complete stream from one with lost or repeated tokens.
"""

import math

import attrs
import trio

from llmactors import errors
from llmactors.backends.base import Batching, Capabilities, Job, Output, Takeover
from llmactors.backends.fit import fit
from llmactors.backends.mock.inputs import MockInputs
from llmactors.backends.mock.oracle import MockSequence, mock_prompt_tokens
from llmactors.backends.mock.settings import FaultState, MockSettings
from llmactors.messages import GenerateRequest

__all__ = ["FaultState", "MockBackend", "MockCrash", "MockSettings"]

Key = tuple[str, int]

PREFILL_WAIT_S = 0.02
"""The longest that a step with nothing to decode waits for a prefill, in seconds. Then evictions and new sequences get
their turn."""


class MockCrash(Exception):
    """An injected crash. No `LlmactorsError`, so it ends the incarnation of the backend, as a real crash does."""


@attrs.define(eq=False)
class _Slot:
    """One admitted sequence."""

    key: Key
    sequence: MockSequence | MockInputs
    max_tokens: int
    ready_at: float
    """When the prefill is done, on Trio's clock."""
    held_at: float
    """The number of tokens at which the sequence makes no more; infinity where nothing holds the sequence."""
    faulty: bool
    """Whether the injected faults apply to this sequence."""
    admitted: bool = True
    """False once the sequence was evicted."""


class MockBackend:
    """A stepwise backend, `Takeover.EXACT`. `MockSettings` describes its behaviour.

    Args:
        settings: How the backend behaves.
        faults: The faults so far. Pass the same object to each incarnation, so that faults are counted across restarts.
    """

    def __init__(self, settings: MockSettings | None = None, faults: FaultState | None = None) -> None:
        self.settings = settings or MockSettings()
        self.faults = faults or FaultState()
        self.capabilities = Capabilities(
            slots=self.settings.slots,
            context_tokens=self.settings.context,
            takeover=Takeover.EXACT,
            batching=self.settings.batching,
            honours=frozenset(
                {
                    "prompt_ids",
                    "ignore_eos",
                    "constraint",
                    "tools",
                    "inputs",
                    "dimensions",
                    "query",
                    "top_logprobs",
                    "min_tokens",
                    *(("images", "image_links") if self.settings.images else ()),
                }
            ),
            tool_format=self.settings.tool_format,
        )
        self._slots: dict[Key, _Slot] = {}
        self._injects = bool(self.settings.crash_at or self.settings.hang_at or self.settings.slow_at)
        self._batch_runs = False
        self._broken = ""

    async def start(self) -> None:
        await trio.sleep(self.settings.load_s)
        if self.faults.failed_starts < self.settings.start_fail:
            self.faults.failed_starts += 1
            raise MockCrash(f"injected: start {self.faults.failed_starts} of {self.settings.start_fail} that fail")

    async def admit(self, job: Job) -> None:
        """Adds one sequence, which continues behind `job.tokens`.

        Raises:
            ContextExceeded: Prompt and answer do not fit in the context.
            GrammarError: The grammar of the request cannot be served.
            BackendFailed: The prompt contains `refuse`.
            RuntimeError: The caller broke the contract: no slot is free, the key is in use, or a static batch runs.
        """
        # No pass of the scheduler, as a burst of admissions would delay the next step by as many passes.
        await trio.lowlevel.checkpoint_if_cancelled()
        request = job.request
        prompt_tokens = mock_prompt_tokens(request.text)
        fitting = fit(request, prompt_tokens, self.settings.context)
        if self.settings.refuse and self.settings.refuse in request.text:
            raise errors.BackendFailed("the mock is set to refuse such prompts")
        self._check_room(job)
        self._slots[job.key] = _Slot(
            key=job.key,
            sequence=self._sequence(fitting, len(job.tokens)),
            max_tokens=request.max_tokens,
            ready_at=trio.current_time() + self.settings.prefill_ms / 1000,
            held_at=self._held_at(len(job.tokens)),
            faulty=self._injects and self.settings.crash_prompt in request.text,
        )

    async def step(self) -> list[Output]:
        """Makes one token for each sequence whose prefill is done when the step begins.

        Where no prefill is done, the step waits up to `PREFILL_WAIT_S` for the first. A cancelled step has made
        nothing. Always a checkpoint.

        Raises:
            MockCrash: Injected by `crash_at`, or caused by `kill`.
        """
        self._batch_runs = True
        if self._broken:
            raise MockCrash(self._broken)
        if self.settings.prefill_ms and self._slots:
            first = min(slot.ready_at for slot in self._slots.values())
            latest = trio.current_time() + PREFILL_WAIT_S
            await trio.sleep_until(min(first, latest))
            if first > latest:
                return []
        decoding = self._ready(trio.current_time())
        if not decoding and self._slots:
            await trio.sleep(PREFILL_WAIT_S)
            return []
        extra_ms = await self._inject(decoding) if self._injects else 0.0
        await trio.sleep((self.settings.step_ms + self.settings.step_ms_per_sequence * len(decoding) + extra_ms) / 1000)

        outputs = []
        for slot in decoding:
            if not slot.admitted:  # evicted while the step ran
                continue
            sequence = slot.sequence
            deltas = (sequence.advance(),) if sequence.finish is None else ()
            if sequence.finish is None:
                outputs.append(Output(slot.key, deltas))
            else:
                self.evict(slot.key)
                outputs.append(Output(slot.key, deltas, sequence.finish, sequence.prompt_tokens))
        return outputs

    def _ready(self, now: float) -> list[_Slot]:
        """The sequences that make a token in a step that begins now."""
        if not (self.settings.prefill_ms or self.settings.hold_every):
            return [*self._slots.values()]
        return [slot for slot in self._slots.values() if slot.ready_at <= now and slot.sequence.seq < slot.held_at]

    def evict(self, key: Key) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            slot.admitted = False
        if not self._slots:
            self._batch_runs = False

    def kill(self) -> None:
        """Does as if the process of the model had been killed."""
        self._broken = "the simulated process was killed"

    async def check(self) -> None:
        """Raises `MockCrash` once a step has crashed or hung, as this incarnation does not work any more."""
        await trio.lowlevel.checkpoint()
        if self._broken:
            raise MockCrash(self._broken)

    async def close(self) -> None:
        for key in tuple(self._slots):
            self.evict(key)
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<MockBackend {len(self._slots)}/{self.settings.slots} slots{', ' * bool(self._broken)}{self._broken}>"

    def _sequence(self, request: GenerateRequest, taken: int) -> MockSequence | MockInputs:
        if request.inputs:
            return MockInputs(request, dimensions=self.settings.dimensions, taken=taken)
        return MockSequence(request, eos_one_in=self.settings.eos_one_in, taken=taken)

    def _held_at(self, taken: int) -> float:
        """The first multiple of `hold_every` behind the tokens that were taken over."""
        every = self.settings.hold_every
        return (taken // every + 1) * every if every else math.inf

    def _check_room(self, job: Job) -> None:
        if job.key in self._slots:
            raise RuntimeError(f"{job.key} was admitted already")
        if len(self._slots) >= self.settings.slots:
            raise RuntimeError(f"all {self.settings.slots} slots are taken")
        if self.settings.batching is Batching.STATIC and self._slots:
            if self._batch_runs:
                raise RuntimeError("a static batch runs, so no sequence may join")
            if job.request.max_tokens != next(iter(self._slots.values())).max_tokens:
                raise RuntimeError("all sequences of a static batch must have the same max_tokens")

    async def _inject(self, decoding: list[_Slot]) -> float:
        """Raises or hangs where a fault is due. Otherwise returns how many milliseconds longer the step takes."""
        settings = self.settings
        due = {slot.sequence.seq + 1 for slot in decoding if slot.faulty and slot.sequence.finish is None}
        if not settings.crash_times or self.faults.faults < settings.crash_times:
            if settings.crash_at in due:
                self.faults.faults += 1
                self._broken = f"injected: crash at token {settings.crash_at}"
                raise MockCrash(self._broken)
            if settings.hang_at in due:
                self.faults.faults += 1
                self._broken = f"injected: hang at token {settings.hang_at}"
                await trio.sleep_forever()
        return settings.slow_ms if settings.slow_at in due else 0.0
