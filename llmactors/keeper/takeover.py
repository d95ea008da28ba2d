"""In which parts a gateway gets the connections, and which connection is cut because gateways end by it. Pure."""

from collections import deque
from collections.abc import Iterable

SETTLE_S = 0.1
"""The wait behind a connection that is given alone, once gateways ended though they had taken up each connection."""


class TakeoverOrder:
    """Gives all connections at once, until a gateway ends early: it ended before it had served for a while.

    The next gateway gets each connection that the gateway had by itself, and the next one only when it has taken up the
    one before. So a connection by which gateways end is found, and all others are served.
    """

    def __init__(self) -> None:
        self.settle_s = 0.0
        self._doubts: dict[int, int] = {}
        """How many gateways ended early: 1 for those that had many connections, 1 for each that had it alone."""
        self._parts: deque[list[int]] = deque()
        self._alone: int | None = None
        self._careful = False

    def __repr__(self) -> str:
        return f"<TakeoverOrder doubts={self._doubts}>"

    def begin(self, cids: Iterable[int]) -> None:
        """A gateway begins to take over these connections."""
        known = sorted(cids, key=lambda cid: self._doubts.get(cid, 0))
        self._careful, self._alone = bool(self._doubts), None
        self._parts = deque([[cid for cid in known if cid not in self._doubts]])
        self._parts.extend([cid] for cid in known if cid in self._doubts)

    def next_part(self) -> list[int] | None:
        """The connections that are given next; None if all are taken up. The gateway has taken up those before."""
        if self._alone is not None:
            self._doubts.pop(self._alone, None)
        part = self._parts.popleft() if self._parts else None
        self._alone = part[0] if part and part[0] in self._doubts else None
        return part

    def ended_early(self, cids: Iterable[int], *, crashed: bool, answered: bool) -> int | None:
        """Notes the end of a gateway that had these connections, and returns the one that must be cut, if any.

        One crash with a connection that was given alone is enough. What was killed from outside must end twice with it.
        """
        alone = self._alone
        if alone is not None and (not answered or self.settle_s):
            self._doubts[alone] += 1
            return alone if crashed or self._doubts[alone] > 2 else None
        if self._careful:
            self.settle_s = SETTLE_S
        self._doubts = {cid: self._doubts.get(cid, 1) for cid in cids}
        return None

    def settled(self) -> None:
        """The gateway has served for a while, and no connection is doubted."""
        self._doubts, self.settle_s = {}, 0.0
