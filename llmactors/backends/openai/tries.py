"""The tries of one request: which upstream is asked next, after which pause, and when the request is given up.

Pure: `now` and `rng` are arguments, and times are in seconds. `backend` does what this module decides.
"""

import random

import attrs

from llmactors.actors.backoff import Backoff
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.faults import UpstreamFault
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import LlmactorsError, Unavailable

_PAUSE = Backoff(first_s=0.1, factor=2.0, cap_s=2.0, jitter=0.5)
"""Between two tries at one upstream."""
_LOOK_AGAIN_S = 0.05


@attrs.frozen
class Try:
    """One request that is sent to one upstream. `Tries.end` must be called with the try, whatever became of it."""

    place: int
    """The place of the upstream among the upstreams of the model."""
    is_trial: bool
    """Whether this is the trial of the upstream's circuit."""


@attrs.define
class Tries:
    """The tries of one request.

    Call `choose` for each try. Then call `record_answer` at its first token, or `record_fault`, and `end` in any case.
    """

    _settings: OpenAISettings
    _balance: Balance
    _made: int = attrs.field(default=0, init=False)
    """How many tries were made since a token came."""
    _waited_s: float = attrs.field(default=0.0, init=False)
    _failed: set[int] = attrs.field(factory=set, init=False)
    """The upstreams that are not asked again while another one takes requests."""
    _last: UpstreamFault | None = attrs.field(default=None, init=False)

    def choose(self, now: float, rng: random.Random) -> Try | float:
        """Returns the next try, or how many seconds to wait before the next call of this method.

        Raises the `LlmactorsError` for the client where the request is given up.
        """
        if self._made >= self._settings.attempts:
            raise self._given_up()
        place = self._balance.choose(now, rng, avoid=self._failed)
        if place is not None and (place not in self._failed or not self._made):
            self._made += 1
            return Try(place, self._balance.circuits[place].take(now))
        if place is not None:  # every other upstream has failed: this one is asked again, after a pause
            self._failed.clear()
            pause_s = _PAUSE.delay_s(self._made - 1, rng)
        else:
            pause_s = max(_LOOK_AGAIN_S, self._balance.next_at(now) - now)
        self._waited_s += pause_s
        if self._waited_s > self._settings.wait_s:
            raise self._given_up(retry_after_s=pause_s)
        return pause_s

    def record_answer(self, one: Try) -> None:
        """Records that a try brought a token, or a whole answer: later faults have all tries before them again."""
        self._balance.circuits[one.place].succeed()
        self._made = 0

    def record_fault(self, one: Try, fault: UpstreamFault, now: float, rng: random.Random) -> None:
        """Records that a try failed. Raises the `LlmactorsError` for the client where no other try can help."""
        circuit = self._balance.circuits[one.place]
        if fault.hold_s is not None:
            circuit.hold(now + fault.hold_s)
        if fault.blames:
            circuit.fail(now, rng)
        elif not fault.again:
            circuit.succeed()
        self._failed.add(one.place)
        self._last = fault
        if not fault.again:
            raise fault.error from fault

    def end(self, one: Try) -> None:
        """Records that a try is over: a trial that decided nothing makes way for the trial of another request."""
        if one.is_trial:
            self._balance.circuits[one.place].give_back()

    def _given_up(self, *, retry_after_s: float = 1.0) -> LlmactorsError:
        if self._last is not None:
            return self._last.error
        return Unavailable("no upstream takes requests now", retry_after_s=retry_after_s)
