"""Who has used how much: one small state per caller, forgotten as soon as it says nothing any more. Pure.

The store is made outside the actor that uses it and handed in, so that a restart forgives nobody.
"""

import heapq
import itertools

import attrs

from llmactors.limiter.fixed_window import fixed_window
from llmactors.limiter.gcra import gcra
from llmactors.limiter.policy import Decision, RateKind, RatePolicy, State, to_ns

_ALGORITHMS = {RateKind.GCRA: gcra, RateKind.FIXED_WINDOW: fixed_window}
_FORGET_AT_ONCE = 4
"""Recovered states looked at per decision: more than the one that a decision can add, so that they drain, and few, so
that a hundred thousand windows that end together stop nobody."""

Key = tuple[str, RatePolicy]


@attrs.frozen
class LimiterStoreStatistics:
    """A snapshot."""

    keys: int
    max_keys: int
    evicted_early_total: int
    """Callers forgotten while they still had something to recover, because `max_keys` was reached."""


class LimiterStore:
    """Decides and remembers, for any number of policies. Not shared between threads.

    States are kept per caller *and* policy: with a changed policy a caller begins anew. A state that has fully
    recovered is dropped; one that has not is dropped only beyond `max_keys`, those nearest to recovery first.
    """

    def __init__(self, max_keys: int = 100_000) -> None:
        self._max_keys = max_keys
        self._states: dict[Key, State] = {}
        # One entry per state: (a moment not after its recovery, tie-break, key). The moments are refreshed when they
        # come up and not at every decision: they only grow.
        self._by_recovery: list[tuple[int, int, Key]] = []
        self._tie_break = itertools.count()
        self._now_ns = 0
        self._evicted_early_total = 0

    def decide(self, key: str, policy: RatePolicy, now_s: float, cost: int = 1) -> Decision:
        """Admits or refuses `cost` requests of caller `key`, and counts them if admitted. A refusal costs nothing.

        Args:
            key: The caller.
            policy: What it may send.
            now_s: The moment, in seconds, on the same clock in all calls. If it goes back, time stands still.
            cost: How many requests it counts for. 0 only asks.
        """
        if cost < 0:
            raise ValueError(f"cost is {cost}: nothing is given back")
        self._now_ns = now_ns = max(self._now_ns, to_ns(now_s))
        entry = (key, policy)
        known = self._states.get(entry)
        state, decision = _ALGORITHMS[policy.kind](policy, known, now_ns, cost)
        if known is not None:
            self._states[entry] = state
        elif decision.remaining < decision.limit:
            self._states[entry] = state
            heapq.heappush(self._by_recovery, (state[0], next(self._tie_break), entry))
        self._forget(now_ns)
        return decision

    def statistics(self) -> LimiterStoreStatistics:
        """How full it is."""
        return LimiterStoreStatistics(len(self._states), self._max_keys, self._evicted_early_total)

    def __repr__(self) -> str:
        return f"<LimiterStore {len(self._states)}/{self._max_keys} keys>"

    def _forget(self, now_ns: int) -> None:
        heap = self._by_recovery
        looks = _FORGET_AT_ONCE
        while len(heap) > self._max_keys or (heap and heap[0][0] <= now_ns and looks > 0):
            looks -= 1
            noted_ns, tie_break, entry = heap[0]
            recovers_ns = self._states[entry][0]
            if recovers_ns > noted_ns:
                heapq.heapreplace(heap, (recovers_ns, tie_break, entry))
                continue
            heapq.heappop(heap)
            del self._states[entry]
            self._evicted_early_total += recovers_ns > now_ns
