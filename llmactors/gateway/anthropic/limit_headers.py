"""The headers with which Anthropic's API shows a caller's limits. Pure.

Source: https://docs.claude.com/en/api/rate-limits, "Response headers".
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from llmactors.limiter.charges import Limit, Standing

_KINDS = (("requests", (Limit.RATE, Limit.REQUESTS)), ("tokens", (Limit.TOKENS, Limit.DAY)))


def anthropic_limit_headers(standings: Sequence[Standing], now_s: float) -> list[tuple[str, str]]:
    """For requests and for tokens, the limit that has least left. `now_s` is in seconds since 1970."""
    headers: list[tuple[str, str]] = []
    for kind, limits in _KINDS:
        of_kind = [standing.decision for standing in standings if standing.charge.limit in limits]
        if of_kind:
            least = min(of_kind, key=lambda decision: (decision.admitted, decision.remaining))
            reset = datetime.fromtimestamp(math.ceil(now_s + least.reset_s), UTC)
            headers += [
                (f"anthropic-ratelimit-{kind}-limit", str(least.limit)),
                (f"anthropic-ratelimit-{kind}-remaining", str(least.remaining)),
                (f"anthropic-ratelimit-{kind}-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
            ]
    return headers
