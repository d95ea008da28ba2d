"""A counter per aligned window. Pure.

The simplest of limits: windows begin at multiples of the period on the given clock, and each admits `amount`. With a
period of a day and a clock that counts from 1970 they are the days of UTC.

Promise: never more than `amount` in one aligned window. In a window of any other position it can be twice as much,
half at the end of one and half at the beginning of the next; where that matters, take GCRA.

A reservation is given back to the window that it was taken from, and to no other.

A clock that goes back stays in the latest window it has seen: nothing is minted.
"""

from llmactors.limiter.policy import MICROSECONDS, Decision, Mark, RatePolicy, State, wait_s


def wait_us(policy: RatePolicy, state: State | None, now_us: int, cost: int) -> int | None:
    """How long until `cost` fits in: 0 if it does now, None if it never will."""
    if cost > policy.limit:
        return None
    present = _present(policy, state, now_us)
    return present.at_us - now_us if cost and present.used + cost > policy.amount else 0


def spend(policy: RatePolicy, state: State | None, now_us: int, cost: int) -> State:
    """The state after `cost`, whether or not it fits in."""
    present = _present(policy, state, now_us)
    return State(present.at_us, present.used + cost)


def settle(policy: RatePolicy, state: State | None, now_us: int, mark: Mark, reserved: int, used: int) -> State | None:
    """The state after a reservation of cost `reserved`, made at `mark`, turned out to be `used`.

    What is above the reservation is owed. None: nothing is to be remembered.
    """
    if used > reserved:
        return spend(policy, state, now_us, used - reserved)
    if state is None or state.at_us != mark.at_us:
        return state
    return State(state.at_us, max(0, state.used + used - reserved))


def recovers_us(policy: RatePolicy, state: State) -> int:  # noqa: ARG001 - as of any algorithm
    """From when on the state says nothing any more."""
    return state.at_us


def decision(policy: RatePolicy, state: State | None, now_us: int, wait: int | None) -> Decision:
    """What to tell the caller. `wait` is as `wait_us` said before anything was spent."""
    present = _present(policy, state, now_us)
    return Decision(
        admitted=wait == 0,
        limit=policy.limit,
        remaining=max(0, policy.amount - present.used),
        reset_s=(present.at_us - now_us) / MICROSECONDS if present.used else 0.0,
        retry_after_s=wait_s(wait) if wait else None,
    )


def _present(policy: RatePolicy, state: State | None, now_us: int) -> State:
    if state is None or now_us >= state.at_us:
        return State((now_us // policy.period_us + 1) * policy.period_us, 0)
    return state
