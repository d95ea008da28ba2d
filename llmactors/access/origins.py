"""Which web pages may open a WebSocket. Pure.

A browser lets every page of the web open a socket to anywhere, and says by `Origin` which page it is. Whoever sends no
`Origin` is no browser.
"""

import re
from collections.abc import Sequence

from llmactors.errors import Forbidden

ANY = "*"

_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@\s]+)", re.IGNORECASE)


def check_origin(origin: str | None, host: str | None, allowed: Sequence[str]) -> None:
    """Lets pages of the same host in, and those of `allowed`. Raises `Forbidden` for all others.

    `host` is the `Host` header. That the page came by https and the socket by http is no other host: so it is behind a
    proxy that ends TLS.
    """
    if origin is None or ANY in allowed:
        return
    lowered = origin.lower()
    if lowered in {each.lower() for each in allowed}:
        return
    match = _ORIGIN.fullmatch(lowered)
    if match is None or host is None or match["host"] != host.lower():
        raise Forbidden(
            "pages of this origin may not open a WebSocket here; the operator allows it by `allowed_origins`"
        )
