"""A count for each aligned window, or for each month. Pure.

Windows begin at multiples of the period on the given clock, and each admits `amount`. With a period of one day and a
clock that counts from 1970, the windows are the days of UTC. For `RateKind.CALENDAR_MONTH` they are its months.

Promise: at most `amount` is admitted in one aligned window. A period that begins inside a window can admit twice as
much: `amount` at the end of one window, and `amount` at the beginning of the next. GCRA does not have this effect.

The unused part of a reservation is given back to the window that it was taken from, and to no other window.

If the clock goes back, the latest window stays the current one.
"""

import datetime as dt

from llmactors.limiter.policy import MICROSECONDS, LimitDecision, Mark, RateKind, RatePolicy, RateState, wait_s


def wait_us(policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> int | None:
    """The microseconds until `cost` fits into a window: 0 if it fits now, None if it never fits."""
    if cost > policy.limit:
        return None
    present = _present(policy, state, now_us)
    return present.at_us - now_us if cost and present.used + cost > policy.amount else 0


def spend(policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> RateState:
    """The state after `cost`, whether or not the cost fits."""
    present = _present(policy, state, now_us)
    return RateState(present.at_us, present.used + cost)


def settle(
    policy: RatePolicy, state: RateState | None, now_us: int, mark: Mark, reserved: int, used: int
) -> RateState | None:
    """The state after a reservation of `reserved`, made at `mark`, is settled with `used`. None if no state is needed.

    A use above the reservation is charged as well.
    """
    if used > reserved:
        return spend(policy, state, now_us, used - reserved)
    if state is None or state.at_us != mark.at_us:
        return state
    return RateState(state.at_us, max(0, state.used + used - reserved))


def recovers_us(policy: RatePolicy, state: RateState) -> int:  # noqa: ARG001 - the signature of `Algorithm`
    """When the window ends, and the state can be forgotten."""
    return state.at_us


def decision(policy: RatePolicy, state: RateState | None, now_us: int, wait: int | None) -> LimitDecision:
    """The decision for the caller. `wait` is the result of `wait_us` before anything was spent."""
    present = _present(policy, state, now_us)
    return LimitDecision(
        admitted=wait == 0,
        limit=policy.limit,
        remaining=max(0, policy.amount - present.used),
        reset_s=(present.at_us - now_us) / MICROSECONDS if present.used else 0.0,
        retry_after_s=wait_s(wait) if wait else None,
    )


def _present(policy: RatePolicy, state: RateState | None, now_us: int) -> RateState:
    if state is None or now_us >= state.at_us:
        return RateState(_end_us(policy, now_us), 0)
    return state


def _end_us(policy: RatePolicy, now_us: int) -> int:
    """When the window of a moment ends."""
    if policy.kind is RateKind.CALENDAR_MONTH:
        now = dt.datetime.fromtimestamp(now_us // MICROSECONDS, dt.UTC)
        year, month = divmod(now.year * 12 + now.month, 12)
        return int(dt.datetime(year, month + 1, 1, tzinfo=dt.UTC).timestamp()) * MICROSECONDS
    return (now_us // policy.period_us + 1) * policy.period_us
