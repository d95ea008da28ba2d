"""Which web pages may use a node. Pure.

A browser lets every web page send a POST, or open a WebSocket, to any host. The browser sends the page's origin in the
header `Origin`, and whether the page belongs to the host in `Sec-Fetch-Site`. A page cannot change these headers. A
client that sends neither is not a browser.

A node with keys checks the origin too. A browser does not add a key to a request by itself, but a proxy in front of the
node may add the key to all of them.
"""

import re
from collections.abc import Sequence

from llmactors.errors import Forbidden

ANY = "*"

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^/?#@\s]+)", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
"""Methods that change nothing. A page of another origin may send them, but its browser hides the answer from it."""


def changes_state(method: str) -> bool:
    """Whether requests of this method are refused to foreign pages."""
    return method not in _SAFE_METHODS


def is_listed(origin: str, allowed: Sequence[str]) -> bool:
    """Whether the operator allows pages of `origin`."""
    return ANY in allowed or _plain(origin) in map(_plain, allowed)


def check_origin(origin: str | None, site: str | None, hosts: Sequence[str], allowed: Sequence[str]) -> None:
    """Accepts the node's own pages and those of `allowed`. Raises `Forbidden` for all other pages.

    Args:
        origin: The header `Origin`.
        site: The header `Sec-Fetch-Site`.
        hosts: The header `Host`, and the host that the client named to a trusted proxy.
        allowed: The values of `allowed_origins`.
    """
    if ANY in allowed or (origin is not None and is_listed(origin, allowed)):
        return
    # The browser compares the page with the URL of the request, which is right also if a proxy has changed `Host`.
    if site == "same-origin":
        return
    if site in {None, "none"} and (origin is None or _is_own(origin, hosts)):
        return
    page = "a page of another origin" if origin is None else f"a page of the origin {origin[:100]!r}"
    raise Forbidden(f"{page} may not send this request; the operator can add the origin to `allowed_origins`")


def _is_own(origin: str, hosts: Sequence[str]) -> bool:
    """Whether `origin` is one of the hosts.

    The scheme is not compared, because behind a proxy that terminates TLS the page comes by https and the request by
    http.
    """
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None or match["scheme"] not in _PORTS:
        return False
    own = match["host"].removesuffix(":" + _PORTS[match["scheme"]])
    return any(own == host.lower().removesuffix(":" + _PORTS[match["scheme"]]) for host in hosts)


def _plain(origin: str) -> str:
    """The origin as browsers write it: in lower case, and without the port that its scheme has anyway."""
    lowered = origin.lower()
    port = _PORTS.get(lowered.partition(":")[0])
    return lowered if port is None else lowered.removesuffix(f":{port}")
