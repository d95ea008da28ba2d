"""Who is calling: an optional API key, by `X-API-Key` or `Authorization: Bearer`."""

import hmac
from collections.abc import Iterable

import attrs

from llmactors.errors import Unauthenticated
from llmactors.limiter.limits import Limits

OPEN_ROUTES = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
"""Served without a key: they are for orchestrators and scrapers, and say nothing of any request."""


@attrs.frozen
class Caller:
    """Who sent a request."""

    tenant: str
    """Whom the requests of this caller belong to."""
    limit_key: str
    """What the limiter counts by: the key's owner, or the address where no key is asked for."""
    limits: Limits = attrs.field(factory=Limits)
    """What this tenant may use; the node's own `rate_limit` counts beside it."""
    models: frozenset[str] | None = None
    """What it may use of the models that are served; None: all."""
    best_priority: int = 0
    """The best class that it may ask for: 0 is served before 1, 1 before 2."""
    weight: float = 1.0
    """The tenant's share of its class."""


class Authenticator:
    """Knows the one key of this node, if there is one."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key.encode() if api_key else None

    def __repr__(self) -> str:
        return f"<Authenticator {'with' if self._api_key else 'without'} a key>"

    def identify(self, headers: Iterable[tuple[bytes, bytes]], client: str) -> Caller:
        """The caller with these ASGI headers at address `client`. Raises `Unauthenticated`."""
        if self._api_key is None:
            return Caller("anonymous", f"address:{client}")
        given = _key_of(headers)
        if given is None:
            raise Unauthenticated("send the API key as `X-API-Key: …` or `Authorization: Bearer …`")
        if not hmac.compare_digest(given, self._api_key):
            raise Unauthenticated("this API key is not known")
        return Caller("key", "key")


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"x-api-key":
            return value.strip()
        if lowered == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and token:
                return token.strip()
    return None
