"""Limits on the requests and tokens that a caller may use, and on the requests that a caller may have open at once.

limits        the bounds of one tenant
charges       what a request costs, limit by limit
used          what an ended request has used
policy        a rate, the remembered state of one caller, and a decision
gcra          counts a rate evenly
fixed_window  counts a rate in aligned windows
permits       counts open requests
algorithms    which algorithm belongs to which rate
store         how much each caller has used, in one process
share         one gateway's share of a limit
headers       the response headers that show the limits
actor         counts a gateway's share while the ledger is away

A ledger charges a request in the operation that admits the request, and settles the charge in the operation that ends
it. So all gateways of a cluster share one count, and a crash leaves nothing reserved. Everything except the actor is
pure: the time is an argument.
"""

from llmactors.limiter.charges import Charge, Limit, Standing, charges_for
from llmactors.limiter.headers import limit_headers
from llmactors.limiter.limits import Limits
from llmactors.limiter.policy import LimitDecision, RateKind, RatePolicy
from llmactors.limiter.store import LimiterStore
from llmactors.limiter.used import Used

__all__ = [
    "Charge",
    "Limit",
    "LimitDecision",
    "LimiterStore",
    "Limits",
    "RateKind",
    "RatePolicy",
    "Standing",
    "Used",
    "charges_for",
    "limit_headers",
]
