"""A decision as response headers, in the form that OpenAI's clients read. Pure.

Source: https://platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"; `retry-after-ms` is what the
official `openai` client looks at first.
"""

import math

from llmactors.limiter.policy import Decision


def rate_headers(decision: Decision) -> list[tuple[str, str]]:
    """The `x-ratelimit-…` headers of any answer, and `retry-after` (whole seconds, at least 1) of a refused one.

    All times are rounded up: who waits as told does not come too early.
    """
    headers = [
        ("x-ratelimit-limit-requests", str(decision.limit)),
        ("x-ratelimit-remaining-requests", str(decision.remaining)),
        ("x-ratelimit-reset-requests", format_duration(decision.reset_s)),
    ]
    if decision.retry_after_s is not None:
        headers += [
            ("retry-after", str(max(1, math.ceil(decision.retry_after_s)))),
            ("retry-after-ms", str(_milliseconds(decision.retry_after_s))),
        ]
    return headers


def format_duration(duration_s: float) -> str:
    """`0s`, `12ms`, `1.5s`, `6m0s`, `1h0m0s`: as Go prints durations, which OpenAI's servers do; rounded up to 1 ms."""
    total_ms = _milliseconds(duration_s)
    if 0 < total_ms < 1000:
        return f"{total_ms}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:g}s"
    if total_ms >= 60_000:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _milliseconds(duration_s: float) -> int:
    # 0.007 * 1000 is a hair above 7: a thousandth of a millisecond is not worth a whole one.
    return max(0, math.ceil(round(duration_s * 1000, 3)))
