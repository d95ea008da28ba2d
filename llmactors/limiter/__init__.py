"""Rate limits as pure arithmetic: what a policy admits at a moment, and the memory of who has used how much.

A `RatePolicy` says how much, `LimiterStore` decides and remembers, `rate_headers` tells the caller. Nothing here knows
a clock or an event loop; the moment is an argument.
"""

from llmactors.limiter.headers import rate_headers
from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import Decision, RateKind, RatePolicy
from llmactors.limiter.store import LimiterStore, LimiterStoreStatistics

__all__ = ["Decision", "LimiterStore", "LimiterStoreStatistics", "Limits", "RateKind", "RatePolicy", "rate_headers"]
