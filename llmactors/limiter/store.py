"""How much each caller has used, in this process: one small state for each key, until the state has recovered. Pure.

The same arithmetic runs inside Redis for many gateways: `ledger/redis/limits.lua`.
"""

import heapq
import itertools
from collections.abc import Sequence

import attrs

from llmactors.limiter.algorithms import ALGORITHMS
from llmactors.limiter.charges import Charge, Standing, add_up
from llmactors.limiter.permits import Permits, permit_decision, permit_wait_us
from llmactors.limiter.policy import LimitDecision, Mark, RatePolicy, RateState
from llmactors.limiter.used import Used

_FORGET_AT_ONCE = 4
"""The most states that one call checks for recovery: more than most calls add, and few, so that a hundred thousand
windows that end together do not block the event loop."""


@attrs.frozen
class Reservation:
    """What one request has reserved of one limit until the request ends."""

    charge: Charge
    mark: Mark | None
    """None for a permit."""


class LimiterStore:
    """Admits, charges and settles. The store is not safe for threads.

    A state that has fully recovered is dropped. Beyond `max_keys`, the states that are nearest to recovery are dropped
    too. All times are microseconds on one clock; if the clock goes back, time stands still.
    """

    def __init__(self, max_keys: int = 100_000) -> None:
        self._max_keys = max_keys
        self._states: dict[str, tuple[RatePolicy, RateState]] = {}
        self._permits = Permits()
        # One entry for each state: (an early estimate of its recovery, tie-break, key). The estimate is renewed when
        # the entry comes first, and not at every charge.
        self._by_recovery: list[tuple[int, int, str]] = []
        self._tie_break = itertools.count()
        self._now_us = 0

    def look(self, charges: Sequence[Charge], now_us: int, *, free: bool = False) -> list[Standing]:
        """Whether all of `charges` fit together, and what is left of each limit then; one standing for each key.

        If any charge is refused, all standings are those before the call. With `free` the charges count as 0. Nothing
        is changed.
        """
        now_us = self._time(now_us)
        together = add_up(charges)
        costs = [0 if free else charge.cost for charge in together]
        waits = [self._wait_us(charge, now_us, cost) for charge, cost in zip(together, costs, strict=True)]
        admitted = all(wait == 0 for wait in waits)
        return [
            Standing(charge, self._decision(charge, now_us, wait, spent=cost if admitted else 0))
            for charge, cost, wait in zip(together, costs, waits, strict=True)
        ]

    def charge(self, request_id: str, charges: Sequence[Charge], now_us: int) -> tuple[Reservation, ...]:
        """Takes `charges`, whether or not they fit, and returns what must be settled when the request ends."""
        now_us = self._time(now_us)
        holds: list[Reservation] = []
        for each in charges:
            if each.policy is None:
                self._permits.open(each.key, request_id)
                holds.append(Reservation(each, None))
                continue
            state = ALGORITHMS[each.policy.kind].spend(each.policy, self._state(each.key), now_us, each.cost)
            self._put(each.key, each.policy, state)
            if each.limit.of_tokens or each.limit.of_money:
                holds.append(Reservation(each, state))
        self._forget(now_us)
        return tuple(holds)

    def settle(self, request_id: str, holds: Sequence[Reservation], used: Used, now_us: int) -> None:
        """Settles the reservations of a request that has ended. Call this once for a request."""
        now_us = self._time(now_us)
        for hold in holds:
            charge = hold.charge
            if charge.policy is None or hold.mark is None:
                self._permits.close(charge.key, request_id)
                continue
            algorithm = ALGORITHMS[charge.policy.kind]
            before = self._state(charge.key)
            spent = used.cost_nano if charge.limit.of_money else used.tokens
            state = algorithm.settle(charge.policy, before, now_us, hold.mark, charge.cost, spent)
            if state is not None:
                self._put(charge.key, charge.policy, state)

    def __len__(self) -> int:
        """The number of states that the store remembers."""
        return len(self._states)

    def __repr__(self) -> str:
        return f"<LimiterStore {len(self._states)}/{self._max_keys} keys, {self._permits!r}>"

    def _time(self, now_us: int) -> int:
        self._now_us = max(self._now_us, now_us)
        return self._now_us

    def _state(self, key: str) -> RateState | None:
        known = self._states.get(key)
        return None if known is None else known[1]

    def _wait_us(self, charge: Charge, now_us: int, cost: int) -> int | None:
        if charge.policy is None:
            return permit_wait_us(charge, self._permits.count(charge.key), cost)
        return ALGORITHMS[charge.policy.kind].wait_us(charge.policy, self._state(charge.key), now_us, cost)

    def _decision(self, charge: Charge, now_us: int, wait: int | None, *, spent: int) -> LimitDecision:
        if charge.policy is None:
            return permit_decision(charge, self._permits.count(charge.key) + spent, wait)
        algorithm, state = ALGORITHMS[charge.policy.kind], self._state(charge.key)
        after = algorithm.spend(charge.policy, state, now_us, spent) if spent else state
        return algorithm.decision(charge.policy, after, now_us, wait)

    def _put(self, key: str, policy: RatePolicy, state: RateState) -> None:
        if key not in self._states:
            recovers_us = ALGORITHMS[policy.kind].recovers_us(policy, state)
            heapq.heappush(self._by_recovery, (recovers_us, next(self._tie_break), key))
        self._states[key] = (policy, state)

    def _forget(self, now_us: int) -> None:
        heap = self._by_recovery
        checks = _FORGET_AT_ONCE
        # Not at the moment of recovery itself: a state that is created again at the moment of the old state's creation
        # would be taken for the old state.
        while len(heap) > self._max_keys or (heap and heap[0][0] < now_us and checks > 0):
            checks -= 1
            noted_us, tie_break, key = heap[0]
            policy, state = self._states[key]
            recovers_us = ALGORITHMS[policy.kind].recovers_us(policy, state)
            if recovers_us > noted_us:
                heapq.heapreplace(heap, (recovers_us, tie_break, key))
                continue
            heapq.heappop(heap)
            del self._states[key]
