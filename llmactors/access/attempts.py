"""Counts the wrong keys of each address. Pure: `now` is an argument, in seconds.

Many clients can have the same address, which is that of their proxy. So the wrong keys of one client must not lock out
another client that has the right key:

- An address with too many wrong keys gets 429 for every further wrong key.
- A right key that cannot be guessed is accepted from every address at any time.
- A right key that is short, because an operator chose it, is accepted too. But while its address has shown too many
  different wrong keys, the keys from that address are checked one after the other, `TURNS_PER_S` in a second, whether
  they are right or wrong. Otherwise a caller could guess at the speed of the network. A client that sends the same old
  key again and again guesses nothing, and makes nobody wait.
"""

from collections import OrderedDict

import attrs

from llmactors.http.addresses import network_of

WINDOW_S = 60.0
MAX_ADDRESSES = 10_000
"""The most addresses whose failures are kept. Beyond this, the address with the oldest failure is forgotten."""
TURNS_PER_S = 5.0
"""The rate at which the keys of an address with too many failures are checked, if the node's key can be guessed."""
MAX_DIFFERENT = 20
"""The most different wrong keys of an address that are remembered."""
LONGEST_LINE_S = 10.0
"""The longest wait for a turn, in seconds."""


@attrs.define
class _Failures:
    """The failures of one network."""

    began: float
    """The time at which the window began."""
    count: int = 0
    digests: set[str] = attrs.field(factory=set)
    """The digests of the different wrong keys, at most `MAX_DIFFERENT` and at most `limit` of them."""
    next_turn: float = 0.0
    """The time of the next free turn."""


class FailedAttempts:
    """Counts failures by address, and tells how long an address must wait.

    A window begins with the first failure of an address. With failure number `limit` in the window, the address must
    wait for the window's end. All addresses of an IPv6 network of 64 bits count as one, because a client usually has
    the whole network. With a limit of 0 nothing is counted.
    """

    def __init__(self, limit: int, *, window_s: float = WINDOW_S, max_addresses: int = MAX_ADDRESSES) -> None:
        self._limit = limit
        self._most_different = min(limit, MAX_DIFFERENT)
        self._window_s = window_s
        self._max_addresses = max_addresses
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        """The failures of each network."""

    def __repr__(self) -> str:
        return f"<FailedAttempts of {len(self._failures)} addresses, limit {self._limit}>"

    def note(self, address: str, digest: str, now: float) -> None:
        """Counts a failure of `address`, with a wrong key that has this digest."""
        if not self._limit:
            return
        network = network_of(address)
        failures = self._failures.pop(network, None)
        if failures is None or now >= failures.began + self._window_s:
            failures = _Failures(now)
        failures.count += 1
        if len(failures.digests) < self._most_different:
            failures.digests.add(digest)
        self._failures[network] = failures
        if len(self._failures) > self._max_addresses:
            self._failures.popitem(last=False)

    def wait_s(self, address: str, now: float) -> float:
        """The seconds that the address must wait; 0 if it need not wait."""
        failures = self._of(address)
        if failures is None or failures.count < self._limit:
            return 0.0
        return max(0.0, failures.began + self._window_s - now)

    def turn_s(self, address: str, now: float) -> float | None:
        """Takes the next turn, and returns the seconds until then. Returns None, and takes none, if too many wait."""
        failures = self._of(address)
        if failures is None or len(failures.digests) < self._most_different or not self.wait_s(address, now):
            return 0.0
        turn = max(now, failures.next_turn)
        if turn - now > LONGEST_LINE_S:
            return None
        failures.next_turn = turn + 1 / TURNS_PER_S
        return turn - now

    def _of(self, address: str) -> _Failures | None:
        return self._failures.get(network_of(address)) if self._failures else None
