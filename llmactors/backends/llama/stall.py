"""The watch that distinguishes a hung backend from a backend that reads a long prompt. Pure: `now` is an argument."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import attrs


class Clock(Protocol):
    """Seconds from any beginning; never goes back."""

    def __call__(self) -> float: ...


@attrs.frozen
class _Wait:
    since: float
    prompt_tokens: int


class StallWatch:
    """The sequences that wait for output, and the time of the last output.

    A single sequence may get no output for a while; only silence towards all sequences is a stall.
    """

    def __init__(self, stall_s: float, slowest_prompt_tokens_per_s: float) -> None:
        self._stall_s = stall_s
        self._rate = slowest_prompt_tokens_per_s
        self._waits: dict[object, _Wait] = {}
        self._last_output = float("-inf")

    def __repr__(self) -> str:
        return f"<StallWatch {len(self._waits)} waiting>"

    @property
    def waiting(self) -> int:
        """How many sequences wait for output now."""
        return len(self._waits)

    @contextlib.contextmanager
    def wait(self, clock: Clock, *, prompt_tokens: int = 0) -> Iterator[None]:
        """Surrounds each wait for output. `prompt_tokens` must be read before the first output can come."""
        mark = object()
        self._waits[mark] = _Wait(clock(), prompt_tokens)
        try:
            yield
            self._last_output = clock()
        finally:
            del self._waits[mark]

    def silence_s(self, now: float) -> float:
        """For how long no waiting sequence has got output; 0 while no sequence waits."""
        if not self._waits:
            return 0.0
        return now - max(self._last_output, min(wait.since for wait in self._waits.values()))

    def stalled(self, now: float) -> bool:
        """Whether the silence is too long for the prompts that must be read."""
        unread = sum(wait.prompt_tokens for wait in self._waits.values())
        return self.silence_s(now) > self._stall_s + unread / self._rate
