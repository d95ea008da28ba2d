"""Tells a backend that hangs from one that is busy with a long prompt. Pure: `now` is an argument."""

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
    """Who waits for the backend, and since when anyone got anything.

    One sequence alone may starve for a while; only silence towards all of them is a stall.
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
        """How many sequences wait for the backend now."""
        return len(self._waits)

    @contextlib.contextmanager
    def wait(self, clock: Clock, *, prompt_tokens: int = 0) -> Iterator[None]:
        """Around each wait for output. `prompt_tokens`: what must be read before the first of it can come."""
        mark = object()
        self._waits[mark] = _Wait(clock(), prompt_tokens)
        try:
            yield
            self._last_output = clock()
        finally:
            del self._waits[mark]

    def silence_s(self, now: float) -> float:
        """For how long those who wait got nothing; 0 while nobody waits."""
        if not self._waits:
            return 0.0
        return now - max(self._last_output, min(wait.since for wait in self._waits.values()))

    def stalled(self, now: float) -> bool:
        """Whether the silence is too long for the prompts that must be read."""
        unread = sum(wait.prompt_tokens for wait in self._waits.values())
        return self.silence_s(now) > self._stall_s + unread / self._rate
