"""When one upstream gets requests, and when not. Pure: `now` and `rng` are arguments, times are in seconds.

    closed ── failures in a row ──▶ open ── its time is over ──▶ on trial: one request at a time
       ▲                             ▲                              │
       │                             └────────── it fails ──────────┤
       └─────────────────────────── it succeeds ────────────────────┘

Beside that an upstream can ask to be left alone for a while (`Retry-After`): it is well then, only full.
"""

import enum
import random

import attrs

from llmactors.actors.backoff import Backoff

OPEN = Backoff(first_s=1.0, factor=2.0, cap_s=60.0, jitter=0.2)


class CircuitState(enum.Enum):
    """See the module's text."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


@attrs.define
class Circuit:
    """One upstream's. `take` before each request, then `succeed` or `fail`; and `give_back` after each trial."""

    failures_to_open: int = 3
    backoff: Backoff = OPEN
    state: CircuitState = attrs.field(default=CircuitState.CLOSED, init=False)
    failures: int = attrs.field(default=0, init=False)
    """In a row."""
    _streak: int = attrs.field(default=0, init=False)
    """How often it was opened since it last was closed."""
    _open_until: float = attrs.field(default=0.0, init=False)
    _held_until: float = attrs.field(default=0.0, init=False)
    _on_trial: bool = attrs.field(default=False, init=False)

    def admits(self, now: float) -> bool:
        """A request may be sent now."""
        return now >= self.next_at(now) and not (self.state is CircuitState.TRIAL and self._on_trial)

    def next_at(self, now: float) -> float:
        """The earliest time for a request; `now` or earlier where only a trial's end is waited for, or nothing is."""
        return max(self._held_until, self._open_until if self.state is CircuitState.OPEN else now)

    def take(self, now: float) -> bool:
        """A request is sent; True where it is a trial. Only where `admits`."""
        if self.state is CircuitState.OPEN and now >= self._open_until:
            self.state = CircuitState.TRIAL
        if self.state is CircuitState.TRIAL:
            self._on_trial = True
        return self._on_trial

    def succeed(self) -> None:
        """The upstream did its part."""
        self.state = CircuitState.CLOSED
        self.failures = self._streak = 0
        self._on_trial = False

    def fail(self, now: float, rng: random.Random) -> None:
        """It did not. What was sent before the circuit opened changes nothing more about an open one."""
        self.failures += 1
        if self.state is CircuitState.OPEN:
            return
        if self.state is CircuitState.TRIAL or self.failures >= self.failures_to_open:
            self.state = CircuitState.OPEN
            self._on_trial = False
            self._open_until = now + self.backoff.delay_s(self._streak, rng)
            self._streak += 1

    def give_back(self) -> None:
        """A trial has ended, perhaps without saying anything about the upstream: cancelled, or politely put off."""
        self._on_trial = False

    def hold(self, until: float) -> None:
        """The upstream wants no request before `until`."""
        self._held_until = max(self._held_until, until)
