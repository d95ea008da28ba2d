"""The generic cell rate algorithm, as a leaky bucket in continuous state. Pure.

Source: ITU-T Recommendation I.371 and ATM Forum UNI 3.1, which have it beside the virtual scheduling that admits the
same. A bucket of `limit` drains `amount` per period, and a cost is admitted iff it fits in. What is in it is counted in
units of cost times microseconds of the period, of which `amount` drain per microsecond: whole numbers, never rounded.

Promise: in any closed window of length L, a total cost of at most limit + amount L / period is admitted.

A reservation may be given back in part, once it is known what was used of it. That must not let more through than if
only this had been asked for at first. Had it been, then the bucket would be lower now by what is given back, but at no
moment since below empty: so no more can be given back than the least that was in the bucket since the reservation. That
least is not known, but it is at least what was in it right after the reservation, less what has drained since, less
what was given back to others since. Hence `returned`, and the mark. (The promise is then on what was used, where a
reservation counts as used until it is settled, each at the moment of its admission.)

A clock that goes back mints nothing: time stands still until it has caught up.
"""

from llmactors.limiter.policy import MICROSECONDS, Decision, Mark, RatePolicy, State, wait_s


def wait_us(policy: RatePolicy, state: State | None, now_us: int, cost: int) -> int | None:
    """How long until `cost` fits in: 0 if it does now, None if it never will."""
    if cost > policy.limit:
        return None
    over = _level(policy, state, now_us) + (cost - policy.limit) * policy.period_us
    # Who only asks is answered also where a lowered limit left the bucket over its brim.
    return -(-over // policy.amount) + _behind_us(state, now_us) if over > 0 and cost else 0


def spend(policy: RatePolicy, state: State | None, now_us: int, cost: int) -> State:
    """The state after `cost`, whether or not it fits in."""
    level = _level(policy, state, now_us) + cost * policy.period_us
    if state is None:
        return State(now_us, level, 0, now_us)
    return State(max(now_us, state.at_us), level, state.returned, state.born_us)


def settle(policy: RatePolicy, state: State | None, now_us: int, mark: Mark, reserved: int, used: int) -> State | None:
    """The state after a reservation of cost `reserved`, made at `mark`, turned out to be `used`.

    What is above the reservation is owed. None: nothing is to be remembered.
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
    return State(max(now_us, state.at_us), level, state.returned + back, state.born_us)


def recovers_us(policy: RatePolicy, state: State) -> int:
    """From when on the state says nothing any more."""
    return state.at_us - (-state.used // policy.amount)


def decision(policy: RatePolicy, state: State | None, now_us: int, wait: int | None) -> Decision:
    """What to tell the caller. `wait` is as `wait_us` said before anything was spent."""
    level = _level(policy, state, now_us)
    debt_us = -(-level // policy.amount) + (_behind_us(state, now_us) if level else 0)
    return Decision(
        admitted=wait == 0,
        limit=policy.limit,
        remaining=max(0, policy.limit * policy.period_us - level) // policy.period_us,
        reset_s=debt_us / MICROSECONDS,
        retry_after_s=wait_s(wait) if wait else None,
    )


def _level(policy: RatePolicy, state: State | None, now_us: int) -> int:
    if state is None:
        return 0
    return max(0, state.used - max(0, now_us - state.at_us) * policy.amount)


def _behind_us(state: State | None, now_us: int) -> int:
    """How far the clock has gone back."""
    return 0 if state is None else max(0, state.at_us - now_us)
