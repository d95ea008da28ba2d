"""The tries of one request: which upstream is asked next, after which pause, and when the request is given up.

Pure: `now` and `rng` are arguments, and times are in seconds. `backend` does what this module decides.

After a fault, another upstream of the same priority is asked at once. Where none takes the request, an upstream whose
fault may pass is asked once more, after the pause that the upstream named or a short one. Upstreams of the next
priority are asked after that. Where all upstreams have failed, all are asked again, until the tries are used up. Where
all upstreams refuse the key, or know no such model, the request is given up at once.
"""

import math
import random
from collections.abc import Iterable

import attrs

from llmactors.actors.backoff import Backoff
from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.backends.openai.routing.counters import ANSWERED, CANCELLED
from llmactors.backends.openai.routing.faults import CircuitEffect, FaultKind, UpstreamFault
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import LlmactorsError, Unavailable

_PAUSE = Backoff(first_s=0.1, factor=2.0, cap_s=2.0, jitter=0.5)
"""Between two tries at one upstream."""
_LOOK_AGAIN_S = 0.05
_SLOTS_PER_HEDGE = 4
"""Of so many requests that may run at once, one may wait for two upstreams."""


@attrs.frozen
class Try:
    """One request that is sent to one upstream. `Tries.end` must be called with the try, whatever became of it."""

    place: int
    """The place of the upstream among the upstreams of the model."""
    is_hedge: bool = False
    """Whether the request is sent beside another one that is late."""


@attrs.define
class Tries:
    """The tries of one request.

    Call `choose` for each try. Then call `note_begin` at its first token, `note_whole` at the end of its answer, or
    `note_fault`, and `end` in any case.

    Args:
        settings: The bounds on the tries.
        balance: The circuits of the upstreams.
        ends_at: When the request has to have its answer. No pause lasts that long.
    """

    _settings: OpenAISettings
    _balance: Balance
    _ends_at: float = math.inf
    _made: int = attrs.field(default=0, init=False)
    """How many tries were made since a token came."""
    _waited_s: float = attrs.field(default=0.0, init=False)
    _failed: set[int] = attrs.field(factory=set, init=False)
    """The upstreams that are not asked again while another one takes requests."""
    _again: dict[int, float] = attrs.field(factory=dict, init=False)
    """When an upstream that failed may be asked once more, before upstreams of the next priority are asked."""
    _asked_again: set[int] = attrs.field(factory=set, init=False)
    _unfit: set[int] = attrs.field(factory=set, init=False)
    """The upstreams that cannot serve the request: their context is too short, or they cannot go on with the answer."""
    _shut: set[int] = attrs.field(factory=set, init=False)
    """The upstreams that refuse this service's key, or know no such model: a pause mends neither."""
    _last: UpstreamFault | None = attrs.field(default=None, init=False)
    _left: tuple[int, FaultKind] | None = attrs.field(default=None, init=False)
    """The upstream of the last fault and its kind; None after the next try."""
    _undecided: set[int] = attrs.field(factory=set, init=False)
    """The upstreams that have been asked and have not answered yet."""
    _trials: set[int] = attrs.field(factory=set, init=False)
    """The upstreams whose circuits have a try of this request as their trial."""
    _second: Try | None = attrs.field(default=None, init=False)
    """The try beside another one, while neither has brought a token."""

    def choose(self, now: float, rng: random.Random) -> Try | float:
        """Returns the next try, or how many seconds to wait before the next call of this method.

        Raises the `LlmactorsError` for the client where the request is given up.
        """
        if self._made >= self._settings.attempts or len(self._unfit) == len(self._balance.upstreams):
            raise self._given_up()
        for tier in self._balance.tiers():
            fresh = self._ready(tier, now, but=self._failed)
            if fresh:
                return self._take(self._balance.pick(fresh, rng), now)
            again = [place for place in tier if self._may_be_asked_again(place)]
            if again:
                place = min(again, key=self._again.__getitem__)
                if self._again[place] > now:
                    return self._wait(self._again[place] - now)
                del self._again[place]
                self._asked_again.add(place)
                return self._take(place, now)
        return self._start_over(now, rng)

    def choose_second(self, first: Try, now: float, rng: random.Random) -> Try | None:
        """Returns a try beside `first`, at another upstream whose circuit is closed.

        None where there is no such upstream, or where too many requests are sent twice already: if every upstream is
        late because there is too much to do, second requests would make it later.
        """
        most = max(1, self._settings.slots // _SLOTS_PER_HEDGE)
        if self._made >= self._settings.attempts or self._balance.hedges_running >= most:
            return None
        for tier in self._balance.tiers():
            ready = self._ready(tier, now, but={first.place, *self._failed})
            closed = [place for place in ready if self._balance.circuits[place].state is CircuitState.CLOSED]
            if closed:
                self._balance.hedges_running += 1
                self._second = attrs.evolve(self._take(self._balance.pick(closed, rng), now), is_hedge=True)
                return self._second
        return None

    def note_begin(self, one: Try, now: float) -> None:
        """Records that a try brought a token: later faults have all tries before them again."""
        self._end_second()
        self._undecided.discard(one.place)
        self._trials.discard(one.place)
        counters = self._balance.counters[one.place]
        counters.tries[ANSWERED] += 1
        counters.heard_at = now
        self._balance.circuits[one.place].begin()
        self._balance.note_first_token(one.place)
        self._made = 0
        self._asked_again.clear()

    def note_whole(self, one: Try) -> None:
        """Records that a try brought the last token."""
        self._balance.circuits[one.place].succeed()

    def note_fault(self, one: Try, fault: UpstreamFault, now: float, rng: random.Random) -> None:
        """Records that a try failed. Raises the `LlmactorsError` for the client where no other try can help."""
        self._balance.note_fault(one.place, fault, now, rng)
        self._balance.counters[one.place].tries[fault.kind.label] += 1
        self._undecided.discard(one.place)
        self._failed.add(one.place)
        self._last = fault
        self._left = one.place, fault.kind
        if fault.kind is FaultKind.CONTEXT:
            upstreams = self._balance.upstreams
            longest = upstreams[one.place].context_tokens
            self._unfit |= {place for place, other in enumerate(upstreams) if other.context_tokens <= longest}
        elif fault.kind is FaultKind.UNFIT:
            self._unfit.add(one.place)
        elif fault.kind.may_pass and one.place not in self._asked_again and self._settings.retries:
            pause_s = _PAUSE.delay_s(0, rng) if fault.hold_s is None else fault.hold_s
            if self._may_wait(pause_s, now) and pause_s <= self._settings.retry_after_s:
                self._again[one.place] = now + pause_s
        if fault.kind.effect is CircuitEffect.OPENS:
            self._shut.add(one.place)
        if fault.kind.is_final or len(self._unfit | self._shut) == len(self._balance.upstreams):
            raise fault.error from fault

    def note_lost_race(self, one: Try) -> None:
        """Records that the second try brought a token before `one`, which has not failed."""
        self._balance.note_lost_race(one.place)

    def count_second(self, one: Try, outcome: str) -> None:
        """Counts what became of a try that `choose_second` returned."""
        self._balance.counters[one.place].hedges[outcome] += 1

    def end(self, one: Try) -> None:
        """Records that a try is over: a trial that decided nothing gives its place to the trial of another request."""
        if one is self._second:
            self._end_second()
        if one.place in self._undecided:
            self._undecided.discard(one.place)
            self._balance.counters[one.place].tries[CANCELLED] += 1
        if one.place in self._trials:
            self._trials.discard(one.place)
            self._balance.circuits[one.place].give_back()

    def _end_second(self) -> None:
        if self._second is not None:
            self._second = None
            self._balance.hedges_running -= 1

    def _ready(self, places: Iterable[int], now: float, *, but: Iterable[int] = ()) -> list[int]:
        left_out = {*but, *self._unfit}
        return [place for place in places if place not in left_out and self._balance.admits(place, now)]

    def _may_be_asked_again(self, place: int) -> bool:
        at = self._again.get(place)
        return at is not None and self._balance.admits(place, at)

    def _start_over(self, now: float, rng: random.Random) -> Try | float:
        """Every upstream that takes requests has failed, or none takes requests."""
        for tier in self._balance.tiers():
            ready = self._ready(tier, now)
            if ready and not self._made:
                return self._take(self._balance.pick(ready, rng), now)
            if ready:
                self._failed.clear()
                self._again.clear()
                return self._wait(_PAUSE.delay_s(self._made - 1, rng))
        return self._wait(max(_LOOK_AGAIN_S, self._balance.next_at(now, without=self._unfit) - now))

    def _take(self, place: int, now: float) -> Try:
        self._made += 1
        self._undecided.add(place)
        if self._left is not None and self._left[0] != place:
            left, kind = self._left
            self._balance.counters[left].failovers[kind.label] += 1
        self._left = None
        if self._balance.circuits[place].take(now):
            self._trials.add(place)
        return Try(place)

    def _may_wait(self, pause_s: float, now: float) -> bool:
        return self._waited_s + pause_s <= self._settings.wait_s and now + pause_s < self._ends_at

    def _wait(self, pause_s: float) -> float:
        self._waited_s += pause_s
        if self._waited_s > self._settings.wait_s:
            raise self._given_up(retry_after_s=pause_s)
        return pause_s

    def _given_up(self, *, retry_after_s: float = 1.0) -> LlmactorsError:
        if self._last is not None:
            return self._last.error
        return Unavailable("no upstream takes requests now", retry_after_s=retry_after_s)
