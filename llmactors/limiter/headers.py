"""The response headers that show a caller's limits. Pure.

The same figures are sent in two forms:

- `x-ratelimit-…` for OpenAI's clients: for requests and for tokens, the limit that has least left.
  Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers". The official `openai` client
  reads `retry-after-ms` first, then `retry-after`.
- `RateLimit-Policy` and `RateLimit` for all limits. Source: draft-ietf-httpapi-ratelimit-headers-10. Its registry of
  quota units has no unit for tokens, so these limits have the parameter `llm-unit` as well.
"""

import math
from collections.abc import Sequence

from llmactors.limiter.charges import Limit, Standing


def limit_headers(standings: Sequence[Standing]) -> list[tuple[str, str]]:
    """The headers of an answer to a caller with limits. Times are rounded up, so that no caller retries too early.

    Budgets are left out, because the headers have whole numbers of requests or tokens.
    """
    standings = [standing for standing in standings if not standing.charge.limit.of_money]
    if not standings:
        return []
    headers: list[tuple[str, str]] = []
    for kind, limits in (("requests", (Limit.RATE, Limit.REQUESTS)), ("tokens", (Limit.TOKENS, Limit.DAY))):
        of_kind = [standing.decision for standing in standings if standing.charge.limit in limits]
        if of_kind:
            least = min(of_kind, key=lambda decision: (decision.admitted, decision.remaining))
            headers += [
                (f"x-ratelimit-limit-{kind}", str(least.limit)),
                (f"x-ratelimit-remaining-{kind}", str(least.remaining)),
                (f"x-ratelimit-reset-{kind}", format_duration(least.reset_s)),
            ]
    return [
        *headers,
        ("ratelimit-policy", ", ".join(_policy(standing) for standing in standings)),
        ("ratelimit", ", ".join(_present(standing) for standing in standings)),
    ]


def retry_headers(retry_after_s: float) -> list[tuple[str, str]]:
    """`retry-after` in whole seconds, at least 1, and `retry-after-ms` in milliseconds."""
    return [
        ("retry-after", str(max(1, math.ceil(retry_after_s)))),
        ("retry-after-ms", str(_milliseconds(retry_after_s))),
    ]


def format_duration(duration_s: float) -> str:
    """`0s`, `12ms`, `1.5s`, `6m0s`, `1h0m0s`: the format of Go and of OpenAI's servers, rounded up to 1 ms."""
    total_ms = _milliseconds(duration_s)
    if 0 < total_ms < 1000:
        return f"{total_ms}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:g}s"
    if total_ms >= 60_000:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _policy(standing: Standing) -> str:
    charge = standing.charge
    text = f'"{charge.limit.value}";q={charge.most}'
    if charge.policy is None:
        return f'{text};qu="concurrent-requests"'
    text += f";w={max(1, math.ceil(charge.policy.period_s))}"
    return f'{text};llm-unit="tokens"' if charge.limit.of_tokens else text


def _present(standing: Standing) -> str:
    decision = standing.decision
    text = f'"{standing.charge.limit.value}";r={decision.remaining}'
    wait_s = decision.retry_after_s or decision.reset_s
    return f"{text};t={math.ceil(wait_s)}" if wait_s else text


def _milliseconds(duration_s: float) -> int:
    # 0.007 * 1000 is slightly above 7 as a float, and must not be rounded up to 8.
    return max(0, math.ceil(round(duration_s * 1000, 3)))
