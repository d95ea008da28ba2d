"""The checks that come before the key: who the client is, which host a request names, and which web page sends it.

A trusted proxy names the client, whose address then counts for limits and for wrong keys. The host and the page are
checked next, with a 403 for what is not allowed. Then a preflight is answered, because a browser sends no key with one.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from llmactors.access.cors import answer_headers, preflight_headers
from llmactors.access.hosts import ServedHosts
from llmactors.access.origins import changes_state, check_origin
from llmactors.errors import Forbidden, RateLimited
from llmactors.http.addresses import network_of
from llmactors.http.connection_limits import Capacity
from llmactors.http.exchange import Exchange, Header, Scope, client_address, header
from llmactors.http.forwarded import TrustedProxies, Via

MAX_OPEN_REQUESTS = Capacity().of_one_address
"""The most open requests of one client behind a trusted proxy: as many as other clients may have connections."""
_UNCOUNTED = contextlib.nullcontext()
_FORWARDED = "forwarded"
"""The entry of a scope's state with what a trusted proxy says of the request."""


class ClientRules:
    """The rules of one node.

    Args:
        hosts: The hosts that requests may name; None where every host is served, because the node asks for keys.
        allowed_origins: The origins of the web pages that may use the node, besides its own pages.
        proxies: The proxies whose headers about their clients are believed.
    """

    def __init__(
        self,
        hosts: ServedHosts | None = None,
        *,
        allowed_origins: Sequence[str] = (),
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._hosts = hosts
        self._allowed_origins = allowed_origins
        self._proxies = proxies or TrustedProxies()
        self._open: Counter[str] = Counter()
        """The number of open requests of each client behind a trusted proxy."""

    def __repr__(self) -> str:
        return f"<ClientRules {self._hosts!r} origins={list(self._allowed_origins)} {self._proxies!r}>"

    def allow_origins(self, origins: Sequence[str]) -> None:
        """Lets the web pages of these origins use the node from now on, and no others besides its own."""
        self._allowed_origins = origins

    def resolve_client(self, scope: Scope) -> None:
        """Puts the client's own address into the scope of a request that comes from a trusted proxy."""
        via = self._proxies.via(client_address(scope), scope["headers"])
        if via is not None:
            scope["client"] = (via.client, 0)
            scope.setdefault("state", {})[_FORWARDED] = via

    def recall_client(self, scope: Scope, client: str | None) -> None:
        """As `resolve_client`, where an earlier process has seen the headers. `client` is as `proxied_client` said."""
        if client is not None:
            scope["client"] = (client, 0)
            scope.setdefault("state", {})[_FORWARDED] = Via(client)

    def counting(self, scope: Scope) -> AbstractContextManager[None]:
        """Counts a request as open in the block. Raises `RateLimited` if its client has too many open behind a proxy.

        A client without a proxy is bounded by its connections. All clients of a proxy share the proxy's connections.
        """
        return self._counting(network_of(client_address(scope))) if _FORWARDED in scope.get("state", {}) else _UNCOUNTED

    @contextlib.contextmanager
    def _counting(self, network: str) -> Iterator[None]:
        most = MAX_OPEN_REQUESTS
        if self._open[network] >= most:
            raise RateLimited(f"this address has {most} open requests, and may not have more", retry_after_s=1.0)
        self._open[network] += 1
        try:
            yield
        finally:
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]

    async def check_host(self, scope: Scope) -> None:
        """Raises `Forbidden` for a request to a host that this node does not serve.

        Only a request of HTTP/1.0 can have no host, and no browser sends one.
        """
        if self._hosts is not None:
            for host in _hosts_of(scope):
                await self._hosts.check(host)

    def check_page(self, scope: Scope) -> None:
        """Raises `Forbidden` for a request that changes something, or a handshake, of a page that is not allowed."""
        if scope["type"] == "websocket" or changes_state(scope["method"]):
            origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
            if origin is not None or site is not None:  # else no browser sends the request
                check_origin(origin, site, _hosts_of(scope), self._allowed_origins)

    def check_own_page(self, scope: Scope) -> None:
        """Raises `Forbidden` for a request that changes something by a cookie, unless a page of this node sends it.

        A browser adds a cookie by itself, so the pages that the operator allows are not enough here: such a page could
        act for an operator who visits the page.
        """
        if changes_state(scope["method"]):
            origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
            if origin is None and site is None:
                raise Forbidden("a session is for browsers, which say which page sends a request; send the key instead")
            check_origin(origin, site, _hosts_of(scope), ())

    def answer_headers(self, scope: Scope) -> list[Header]:
        """The headers with which every answer to a request lets pages of allowed origins read the answer."""
        return answer_headers(header(scope, b"origin"), self._allowed_origins)

    async def answer_preflight(self, exchange: Exchange, methods: Sequence[str]) -> bool:
        """Answers a preflight of a browser. Returns False for any other request.

        Raises `Forbidden` for a page that is not allowed.
        """
        asked = exchange.header(b"access-control-request-method")
        origin = exchange.header(b"origin")
        if exchange.scope["method"] != "OPTIONS" or asked is None or origin is None:
            return False
        check_origin(origin, exchange.header(b"sec-fetch-site"), _hosts_of(exchange.scope), self._allowed_origins)
        wants_private = exchange.header(b"access-control-request-private-network") == "true"
        names = exchange.header(b"access-control-request-headers")
        await exchange.empty(204, preflight_headers(methods, names, asks_for_private_network=wants_private))
        return True


def proxied_client(scope: Scope) -> str | None:
    """The address of the client, where a trusted proxy named it; else None."""
    via = scope.get("state", {}).get(_FORWARDED)
    return None if via is None else str(via.client)


def served_hosts(allowed: Sequence[str], bind: str) -> ServedHosts:
    """The hosts of a node that listens on `bind`: a name that the operator gave the node to listen on is its own."""
    return ServedHosts(allowed, own_names=[bind.rpartition(":")[0].strip("[]")])


def _hosts_of(scope: Scope) -> list[str]:
    """`Host`, and the host that the client named to a trusted proxy. A page can make neither of them up alone."""
    via = scope.get("state", {}).get(_FORWARDED)
    found = [header(scope, b"host"), None if via is None else via.host]
    return [host for host in found if host is not None]
