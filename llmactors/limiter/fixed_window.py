"""A counter per aligned window. Pure.

The simplest of limits: windows begin at multiples of the period on the given clock, and each admits `requests`.

Promise: never more than `requests` in one aligned window. In a window of any other position it can be twice as much,
half at the end of one and half at the beginning of the next; where that matters, take GCRA.

A clock that goes back stays in the latest window it has seen: nothing is minted.
"""

from llmactors.limiter.policy import NANOSECONDS, Decision, RatePolicy, State, wait_s


def fixed_window(policy: RatePolicy, state: State | None, now_ns: int, cost: int) -> tuple[State, Decision]:
    """Decides one request. Returns the state afterwards: (end of the window, used of it).

    Args:
        policy: Of kind FIXED_WINDOW.
        state: The state before; None for a caller without a past.
        now_ns: The moment.
        cost: How many requests it counts for. 0 only asks.
    """
    if state is None or now_ns >= state[0]:
        ends_ns, used = (now_ns // policy.period_ns + 1) * policy.period_ns, 0
    else:
        ends_ns, used = state
    admitted = used + cost <= policy.requests
    if admitted:
        used += cost
    return (ends_ns, used), Decision(
        admitted=admitted,
        limit=policy.requests,
        remaining=policy.requests - used,
        reset_s=(ends_ns - now_ns) / NANOSECONDS if used else 0.0,
        retry_after_s=None if admitted or cost > policy.requests else wait_s(ends_ns - now_ns),
    )
