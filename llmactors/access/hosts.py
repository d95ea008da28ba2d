"""The host names to which a node without keys answers.

A web page can let its own host name resolve to 127.0.0.1, or to an address of a private network, after the browser has
loaded the page. This is called DNS rebinding: the browser takes the node for the server of the page. The name of the
page's host is still in `Host`, and it is neither an IP address nor a name of this machine.
"""

import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence

import trio

from llmactors.errors import Forbidden

ANY = "*"
LOOKUP_S = 2.0
"""The time in which the machine's full name must be found. While the name is not known, the name is refused."""
LOOK_AGAIN_S = 60.0
"""The time after which a lookup that found nothing is repeated."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Za-z:.%]+\]|[^:\[\]/?#@\s]+)(?::(?P<port>[0-9]*))?")


@functools.lru_cache(maxsize=64)
def split_host(text: str) -> tuple[str, str] | None:
    """The name and the port of a `Host`; None for a text that is no host.

    The name is in lower case, without brackets and without the dot at the end of a full name. The port may be empty.
    """
    match = _HOST.fullmatch(text.strip())
    if match is None:
        return None
    return match["name"].strip("[]").lower().removesuffix("."), match["port"] or ""


@functools.lru_cache(maxsize=64)
def is_address(name: str) -> bool:
    """Whether a host's name is an IP address, which no DNS server can let point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def full_name() -> str:
    """The name of this machine with its domain. The lookup may block for as long as the DNS server takes."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)
    except OSError:
        return ""
    return found[0][3]


class ServedHosts:
    """The hosts that requests may name.

    Args:
        allowed: The values of `allowed_hosts`. A value without a port stands for every port.
        own_names: Further names of this node.
        find_full_name: Finds the name of this machine with its domain. This function runs in a thread.
    """

    def __init__(
        self,
        allowed: Sequence[str] = (),
        *,
        own_names: Iterable[str] = (),
        find_full_name: Callable[[], str] = full_name,
    ) -> None:
        self._allows_all = ANY in allowed
        self._allowed = {split_host(each) for each in allowed}
        machine = socket.gethostname()
        self._own = {name.lower() for name in ("localhost", machine, machine.partition(".")[0], *own_names) if name}
        self._find_full_name = find_full_name
        self._looked_at: float | None = None
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<ServedHosts {'all' if self._allows_all else sorted(self._own)}>"

    def has(self, host: str) -> bool:
        """Whether requests to `host` are served, as far as that is known without a lookup."""
        if self._allows_all:
            return True
        parts = split_host(host)
        if parts is None:
            return False
        name, _ = parts
        known = is_address(name) or name in self._own or name.endswith(".localhost")
        return known or parts in self._allowed or (name, "") in self._allowed

    async def check(self, host: str) -> None:
        """Raises `Forbidden` for a host that is not served."""
        if self.has(host):
            return
        await self._learn_full_name()
        if not self.has(host):
            raise Forbidden(
                f"this node does not answer to the host {host[:100]!r}; without API keys, only to IP addresses, "
                "localhost, the machine's own name, and the hosts that the operator names in `allowed_hosts`"
            )

    async def _learn_full_name(self) -> None:
        async with self._lock:
            now = trio.current_time()
            if self._looked_at is not None and now - self._looked_at < LOOK_AGAIN_S:
                return
            self._looked_at = now
            with trio.move_on_after(LOOKUP_S):
                name = await trio.to_thread.run_sync(self._find_full_name, abandon_on_cancel=True)
                # A machine without a domain may be told the name of its loopback address.
                self._own |= {name.lower().removesuffix(".")} - {""}
