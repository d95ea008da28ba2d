"""Which web pages may open a WebSocket. Pure.

A browser lets every web page open a socket to any host, and sends the page's origin in the header `Origin`. A client
that sends no `Origin` is not a browser.
"""

import re
from collections.abc import Sequence

from llmactors.errors import Forbidden

ANY = "*"

_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@\s]+)", re.IGNORECASE)


def check_origin(origin: str | None, host: str | None, allowed: Sequence[str]) -> None:
    """Accepts pages of the same host and those of `allowed`. Raises `Forbidden` for all other pages.

    `host` is the `Host` header. The scheme is not compared, because behind a proxy that terminates TLS the page comes
    by https and the socket by http.
    """
    if origin is None or ANY in allowed:
        return
    lowered = origin.lower()
    if lowered in {each.lower() for each in allowed}:
        return
    match = _ORIGIN.fullmatch(lowered)
    if match is None or host is None or match["host"] != host.lower():
        raise Forbidden(
            "pages of this origin may not open a WebSocket here; the operator can add the origin to `allowed_origins`"
        )
