"""What an algorithm for a rate has to know, and which there are. Pure."""

from typing import Protocol

from llmactors.limiter import fixed_window, gcra
from llmactors.limiter.policy import Decision, Mark, RateKind, RatePolicy, State


class Algorithm(Protocol):
    """A module of functions. `now_us` is in microseconds, on the same clock in all calls."""

    def wait_us(self, policy: RatePolicy, state: State | None, now_us: int, cost: int) -> int | None: ...

    def spend(self, policy: RatePolicy, state: State | None, now_us: int, cost: int) -> State: ...

    def settle(
        self, policy: RatePolicy, state: State | None, now_us: int, mark: Mark, reserved: int, used: int
    ) -> State | None: ...

    def recovers_us(self, policy: RatePolicy, state: State) -> int: ...

    def decision(self, policy: RatePolicy, state: State | None, now_us: int, wait: int | None) -> Decision: ...


ALGORITHMS: dict[RateKind, Algorithm] = {RateKind.GCRA: gcra, RateKind.FIXED_WINDOW: fixed_window}
