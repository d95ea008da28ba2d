"""The interface of an algorithm that counts a rate, and the algorithms that exist. Pure."""

from typing import Protocol

from llmactors.limiter import fixed_window, gcra
from llmactors.limiter.policy import LimitDecision, Mark, RateKind, RatePolicy, RateState


class Algorithm(Protocol):
    """A module of these functions. `now_us` is the time in microseconds, on the same clock in all calls."""

    def wait_us(self, policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> int | None: ...

    def spend(self, policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> RateState: ...

    def settle(
        self, policy: RatePolicy, state: RateState | None, now_us: int, mark: Mark, reserved: int, used: int
    ) -> RateState | None: ...

    def recovers_us(self, policy: RatePolicy, state: RateState) -> int: ...

    def decision(self, policy: RatePolicy, state: RateState | None, now_us: int, wait: int | None) -> LimitDecision: ...


ALGORITHMS: dict[RateKind, Algorithm] = {
    RateKind.GCRA: gcra,
    RateKind.FIXED_WINDOW: fixed_window,
    RateKind.CALENDAR_MONTH: fixed_window,
}
