"""The circuit breaker of one upstream. Pure: `now` and `rng` are arguments, times are in seconds.

    closed ── failures in a row ──▶ open ── its time is over ──▶ trial: one request at a time
       ▲                             ▲                              │
       │                             └────────── it fails ──────────┤
       └──────────────────── its answer begins ─────────────────────┘

One failure opens the circuit where no other request can succeed, as with a refused key.
An upstream that asks for a pause (`Retry-After`) gets no requests for that time, whatever the state of its circuit.
"""

import enum
import random

import attrs

from llmactors.actors.backoff import Backoff

OPEN = Backoff(first_s=1.0, factor=2.0, cap_s=20.0, jitter=0.2)
"""For how long a circuit is open. An upstream that works again gets requests again within 25 s."""


class CircuitState(enum.Enum):
    """The states in the picture above."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


@attrs.define
class Circuit:
    """The circuit of one upstream.

    Call `take` before each request, `begin` at its first token, then `succeed`, `fail` or `open`. Call `give_back` in
    any case after a trial.
    """

    failures_to_open: int = 3
    backoff: Backoff = OPEN
    state: CircuitState = attrs.field(default=CircuitState.CLOSED, init=False)
    failures: int = attrs.field(default=0, init=False)
    """The number of failures since the last whole answer."""
    _streak: int = attrs.field(default=0, init=False)
    """How often the circuit has opened since it was closed."""
    _open_until: float = attrs.field(default=0.0, init=False)
    _held_until: float = attrs.field(default=0.0, init=False)
    _on_trial: bool = attrs.field(default=False, init=False)

    def admits(self, now: float) -> bool:
        """Whether a request may be sent now."""
        return now >= self.next_at(now) and not (self.state is CircuitState.TRIAL and self._on_trial)

    def next_at(self, now: float) -> float:
        """The earliest time for a request; at most `now` where only the end of a trial, or nothing, is in the way."""
        return max(self._held_until, self._open_until if self.state is CircuitState.OPEN else now)

    def take(self, now: float) -> bool:
        """Records that a request is sent, and returns whether it is a trial. Call this only where `admits` is true."""
        if self.state is CircuitState.OPEN and now >= self._open_until:
            self.state = CircuitState.TRIAL
        if self.state is CircuitState.TRIAL:
            self._on_trial = True
        return self._on_trial

    def begin(self) -> None:
        """Records that an answer has begun: a trial closes the circuit, and its next opening lasts longer."""
        if self.state is CircuitState.TRIAL:
            self.state = CircuitState.CLOSED
            self.failures = 0
            self._on_trial = False

    def succeed(self) -> None:
        """Records that the upstream did all that was asked: the circuit closes."""
        self.state = CircuitState.CLOSED
        self.failures = self._streak = 0
        self._on_trial = False

    def fail(self, now: float, rng: random.Random) -> None:
        """Records a failure. The failure of a request from before the circuit opened does not keep it open longer."""
        self.failures += 1
        if self.state is CircuitState.TRIAL or self.failures >= self.failures_to_open:
            self.open(now, rng)

    def open(self, now: float, rng: random.Random) -> None:
        """Records a failure after which no other request can succeed. An open circuit does not stay open longer."""
        if self.state is CircuitState.OPEN:
            return
        self.state = CircuitState.OPEN
        self._on_trial = False
        self._open_until = now + self.backoff.delay_s(self._streak, rng)
        self._streak += 1

    def give_back(self) -> None:
        """Ends a trial that neither succeeded nor failed, such as a cancelled one; another request may be the trial."""
        self._on_trial = False

    def hold(self, until: float) -> None:
        """Records that the upstream wants no request before `until`."""
        self._held_until = max(self._held_until, until)
