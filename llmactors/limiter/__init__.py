"""What callers may use: of requests, of tokens, and at once.

    limits      what one tenant may use                   policy        a rate, a state, a decision
    charges     what a request costs, limit by limit      gcra, fixed_window, permits: how each is counted (algorithms)
    store       who has used how much, in one process     headers       tells the caller
    share       a gateway's part of a limit               actor         what is charged; counts while nobody else can

A ledger asks in the move that admits a request, and settles in the move that ends it, so that over many gateways there
is one count, and nothing is left reserved by whoever died. All but the actor is pure: the moment is an argument.
"""

from llmactors.limiter.charges import Charge, Limit, Standing, charges_for
from llmactors.limiter.headers import limit_headers
from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import Decision, RateKind, RatePolicy
from llmactors.limiter.store import LimiterStore

__all__ = [
    "Charge",
    "Decision",
    "Limit",
    "LimiterStore",
    "Limits",
    "RateKind",
    "RatePolicy",
    "Standing",
    "charges_for",
    "limit_headers",
]
