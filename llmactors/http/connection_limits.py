"""How many connections a server holds: in all, of one address, and how many in reserve for health probes. Pure."""

from collections import Counter

import attrs

from llmactors.errors import LlmactorsError, RateLimited, Unavailable

_FILES_OF_OTHERS = 32
"""The number of files that are left for the process's other work, such as its connections to Redis and to backends."""


@attrs.frozen
class Capacity:
    """How many connections a server may hold."""

    most: int = 4096
    """The number of connections that may send any request."""
    of_one_address: int = 1024
    """How many of these may come from one address."""
    reserve: int = 64
    """The number of further connections, which may only ask for the health of the server."""

    def within(self, files: int, open_files: int) -> "Capacity":
        """The capacity of a process that may have `files` files open, of which `open_files` are open now."""
        free = max(2, files - open_files - _FILES_OF_OTHERS)
        reserve = min(self.reserve, max(1, free // 4))
        return attrs.evolve(self, most=min(self.most, max(1, free - reserve)), reserve=reserve)


class ConnectionLimits:
    """Counts the open connections by address."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._open = 0
        self._of_address: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<ConnectionLimits {self._open} of {self.capacity.most}>"

    def enter(self, address: str) -> LlmactorsError | None:
        """Counts a new connection. Returns the error for its requests where a limit is reached, without counting it.

        `address` is empty for a connection of which the address says nothing about the client: of a trusted proxy, for
        example. Then only the connections in all are bounded.
        """
        if address and self._of_address[address] >= self.capacity.of_one_address:
            most = self.capacity.of_one_address
            return RateLimited(f"this address has {most} open connections, and may not have more", retry_after_s=1.0)
        if self._open >= self.capacity.most:
            return Unavailable("this server has no connection left; try again in a moment", retry_after_s=1.0)
        self._open += 1
        self._of_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Forgets a connection that `enter` has counted."""
        self._open -= 1
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]
