"""How often an address may show what opens nothing. Pure: `now` is an argument, in seconds."""

from collections import OrderedDict

from llmactors.http.addresses import network_of

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""Of so many addresses the failures are known; of more, those are forgotten that failed the longest ago."""


class FailedAttempts:
    """Counts failures by address, and says who has to wait.

    With the `limit`-th failure in a window, which begins with an address's first one, the address has to wait until the
    window is over. All addresses of an IPv6 network of 64 bits are one, as whoever has one of them has all. A limit of
    0 is none.
    """

    def __init__(self, limit: int, *, window_s: float = WINDOW_S, max_addresses: int = MAX_ADDRESSES) -> None:
        self._limit = limit
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """By network: when its window began, and how many failures are in it."""

    def __repr__(self) -> str:
        return f"<FailedAttempts of {len(self._failures)} addresses, limit {self._limit}>"

    def note(self, address: str, now: float) -> None:
        """One more failure."""
        if not self._limit:
            return
        network = network_of(address)
        began, count = self._failures.pop(network, (now, 0))
        self._failures[network] = (now, 1) if now - began >= self._window_s else (began, count + 1)
        if len(self._failures) > self._max_addresses:
            self._failures.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """How long the address has to wait; 0 where it has not."""
        if not self._failures:
            return 0.0
        began, count = self._failures.get(network_of(address), (now, 0))
        if count < self._limit:
            return 0.0
        return max(0.0, began + self._window_s - now)
