"""Counts the wrong keys of each address. Pure: `now` is an argument, in seconds."""

from collections import OrderedDict

from llmactors.http.addresses import network_of

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""The most addresses whose failures are kept. Beyond this, the address with the oldest failure is forgotten."""


class FailedAttempts:
    """Counts failures by address, and tells how long an address must wait.

    A window begins with the first failure of an address. With failure number `limit` in the window, the address must
    wait for the window's end. All addresses of an IPv6 network of 64 bits count as one, because a client usually has
    the whole network. With a limit of 0 nothing is counted.
    """

    def __init__(self, limit: int, *, window_s: float = WINDOW_S, max_addresses: int = MAX_ADDRESSES) -> None:
        self._limit = limit
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """For each network, when the window began, and the number of failures in the window."""

    def __repr__(self) -> str:
        return f"<FailedAttempts of {len(self._failures)} addresses, limit {self._limit}>"

    def note(self, address: str, now: float) -> None:
        """Counts a failure of `address`."""
        if not self._limit:
            return
        network = network_of(address)
        began, count = self._failures.pop(network, (now, 0))
        self._failures[network] = (now, 1) if now - began >= self._window_s else (began, count + 1)
        if len(self._failures) > self._max_addresses:
            self._failures.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """The seconds that the address must wait; 0 if it need not wait."""
        if not self._failures:
            return 0.0
        began, count = self._failures.get(network_of(address), (now, 0))
        if count < self._limit:
            return 0.0
        return max(0.0, began + self._window_s - now)
