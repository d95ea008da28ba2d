"""The generic cell rate algorithm, as a leaky bucket in continuous state. Pure.

Source: ITU-T Recommendation I.371 and ATM Forum UNI 3.1, which describe this form beside virtual scheduling; both forms
admit the same. A bucket of size `limit` drains `amount` per period, and a cost is admitted if it fits into the bucket.
The level is counted in units of cost times microseconds of the period, of which `amount` drain per microsecond: these
are whole numbers and are never rounded.

Promise: in any closed window of length L, a total cost of at most limit + amount L / period is admitted.

When a request ends, the unused part of its reservation is given back. This must not admit more than a smaller
reservation would have admitted. With a smaller reservation, the level would have been lower by the same amount ever
since, and never below 0. So the amount that is given back must not exceed the lowest level since the reservation. The
lowest level is not stored. The level right after the reservation, minus what has drained since then, minus what was
given back to other requests since then, is a lower bound of the lowest level. The mark and the field `returned` are
stored to compute this bound. (The promise holds for what was used. Until a reservation is settled, all of it counts as
used at the time of its admission.)

If the clock goes back, time stands still until the clock has caught up.
"""

from llmactors.limiter.policy import MICROSECONDS, LimitDecision, Mark, RatePolicy, RateState, wait_s


def wait_us(policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> int | None:
    """The microseconds until `cost` fits into the bucket: 0 if it fits now, None if it never fits."""
    if cost > policy.limit:
        return None
    over = _level(policy, state, now_us) + (cost - policy.limit) * policy.period_us
    # A cost of 0 is always admitted, also where a lowered limit has left the level above the bucket's size.
    return -(-over // policy.amount) + _behind_us(state, now_us) if over > 0 and cost else 0


def spend(policy: RatePolicy, state: RateState | None, now_us: int, cost: int) -> RateState:
    """The state after `cost`, whether or not the cost fits."""
    level = _level(policy, state, now_us) + cost * policy.period_us
    if state is None:
        return RateState(now_us, level, 0, now_us)
    return RateState(max(now_us, state.at_us), level, state.returned, state.born_us)


def settle(
    policy: RatePolicy, state: RateState | None, now_us: int, mark: Mark, reserved: int, used: int
) -> RateState | None:
    """The state after a reservation of `reserved`, made at `mark`, is settled with `used`. None if no state is needed.

    A use above the reservation is charged as well.
    """
    if used > reserved:
        return spend(policy, state, now_us, used - reserved)
    if state is None or state.born_us != mark.born_us:
        return state
    elapsed_us = max(0, max(now_us, state.at_us) - mark.at_us)
    period_us = policy.period_us
    still_in = mark.used - elapsed_us * policy.amount - (state.returned - mark.returned) * period_us
    back = max(0, min(reserved - used, still_in // period_us))
    level = _level(policy, state, now_us) - back * period_us
    return RateState(max(now_us, state.at_us), level, state.returned + back, state.born_us)


def recovers_us(policy: RatePolicy, state: RateState) -> int:
    """When the state has fully recovered, and can be forgotten."""
    return state.at_us - (-state.used // policy.amount)


def decision(policy: RatePolicy, state: RateState | None, now_us: int, wait: int | None) -> LimitDecision:
    """The decision for the caller. `wait` is the result of `wait_us` before anything was spent."""
    level = _level(policy, state, now_us)
    debt_us = -(-level // policy.amount) + (_behind_us(state, now_us) if level else 0)
    return LimitDecision(
        admitted=wait == 0,
        limit=policy.limit,
        remaining=max(0, policy.limit * policy.period_us - level) // policy.period_us,
        reset_s=debt_us / MICROSECONDS,
        retry_after_s=wait_s(wait) if wait else None,
    )


def _level(policy: RatePolicy, state: RateState | None, now_us: int) -> int:
    if state is None:
        return 0
    return max(0, state.used - max(0, now_us - state.at_us) * policy.amount)


def _behind_us(state: RateState | None, now_us: int) -> int:
    """The microseconds by which the clock has gone back."""
    return 0 if state is None else max(0, state.at_us - now_us)
