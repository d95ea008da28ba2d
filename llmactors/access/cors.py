"""The headers with which a browser lets pages of allowed origins read answers. Pure.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol. `Access-Control-Allow-Credentials` is never sent: a key comes
in a header that the page itself sets, so that no page needs what a browser would add.
"""

import re
from collections.abc import Iterable, Sequence

from llmactors.access.origins import is_listed

MAX_AGE_S = 600
"""How long a browser may remember the answer to a preflight."""
EXPOSED = (
    "x-request-id",
    "request-id",
    "x-client-request-id",
    "x-queue-place",
    "x-queue-estimate-s",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
    "ratelimit-policy",
    "ratelimit",
    "openai-processing-ms",
    "allow",
    "www-authenticate",
)
"""The response headers that a page may read."""
REQUEST_HEADERS = (
    "authorization",
    "content-type",
    "x-api-key",
    "idempotency-key",
    "last-event-id",
    "x-request-id",
    "x-request-deadline",
    "x-session-id",
    "traceparent",
    "tracestate",
)
"""The request headers that mean something here, for a preflight that names none."""
_MAX_NAMES = 64
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]{1,64}")

Header = tuple[str, str]


def answer_headers(origin: str | None, allowed: Sequence[str]) -> list[Header]:
    """What is added to every answer to a request with this `Origin`, errors and streams included."""
    if not allowed:
        return []
    # The answer depends on `Origin`, also where there is none: a cache must not give one page another page's answer.
    headers = [("vary", "Origin")]
    if origin is not None and is_listed(origin, allowed):
        headers += [("access-control-allow-origin", origin), ("access-control-expose-headers", ", ".join(EXPOSED))]
    return headers


def preflight_headers(methods: Iterable[str], asked: str | None, *, asks_for_private_network: bool) -> list[Header]:
    """The answer to a preflight of an allowed origin, beside `answer_headers`.

    Args:
        methods: The methods of the route.
        asked: The value of `Access-Control-Request-Headers`. Every header is allowed to a page that is allowed: the
            clients of OpenAI send a dozen of their own, which mean nothing here.
        asks_for_private_network: Whether the browser asks if a public page may use a node of a private network.
    """
    names = [name.strip().lower() for name in (asked or "").split(",", _MAX_NAMES)[:_MAX_NAMES]]
    good = [name for name in names if _NAME.fullmatch(name)] or REQUEST_HEADERS
    headers = [
        ("access-control-allow-methods", ", ".join(methods)),
        ("access-control-allow-headers", ", ".join(good)),
        ("access-control-max-age", str(MAX_AGE_S)),
    ]
    return [*headers, ("access-control-allow-private-network", "true")] if asks_for_private_network else headers
