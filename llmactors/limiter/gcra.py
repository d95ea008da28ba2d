"""The generic cell rate algorithm, as virtual scheduling. Pure.

Source: ITU-T Recommendation I.371 and ATM Forum UNI 3.1, which both have it as the reference. T is the interval of one
request (period / requests), TAT the theoretical arrival time, a request of cost c at time t is admitted iff

    max(TAT, t) + c T - burst T <= t

and TAT then becomes max(TAT, t) + c T. The state is the TAT alone: one integer, in nanoseconds.

Promise: in any closed window of length L, a total cost of at most burst + L / T is admitted. For each admission leaves
TAT <= t + burst T, and TAT, which is at least t before the first of them, rises by c T with each.

TAT never falls, so a clock that goes back mints nothing: callers wait until it has caught up.
"""

from llmactors.limiter.policy import NANOSECONDS, Decision, RatePolicy, State, wait_s


def gcra(policy: RatePolicy, state: State | None, now_ns: int, cost: int) -> tuple[State, Decision]:
    """Decides one request. Returns the state afterwards: (TAT, 0).

    Args:
        policy: Of kind GCRA.
        state: The state before; None for a caller without a past.
        now_ns: The moment.
        cost: How many requests it counts for. 0 only asks.
    """
    interval_ns = policy.interval_ns
    tolerance_ns = policy.limit * interval_ns
    tat_ns = now_ns if state is None else max(state[0], now_ns)
    too_early_ns = tat_ns + cost * interval_ns - tolerance_ns - now_ns
    admitted = too_early_ns <= 0 or cost == 0
    if admitted:
        tat_ns += cost * interval_ns
    debt_ns = tat_ns - now_ns
    return (tat_ns, 0), Decision(
        admitted=admitted,
        limit=policy.limit,
        # After the clock went back the debt can exceed the tolerance.
        remaining=max(0, tolerance_ns - debt_ns) // interval_ns,
        reset_s=debt_ns / NANOSECONDS,
        retry_after_s=None if admitted or cost > policy.limit else wait_s(too_early_ns),
    )
