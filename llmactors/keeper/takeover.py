"""In which parts a gateway gets the connections, and which connection is cut because gateways end by it. Pure."""

from collections import deque
from collections.abc import Collection

STABLE_S = 1.0
"""A gateway that serves for less has ended early."""
SETTLE_S = 0.25
"""A gateway that crashes is suspected to have done so because of the connections that it got within this time."""
MOST_KILLS = 5


class TakeoverOrder:
    """Gives all connections at once, until a gateway ends early: it ended before it had served for a while.

    The next gateway gets each connection that the gateway had by itself, and the next one only when it has taken up the
    one before. If it crashes, its last connections are suspects. The suspects are given last and slowly, to a gateway
    that has stood the others for a while. A suspect by which that gateway ends too is cut. All others are served.

    So gateways that crash for other reasons cut no connection: they crash before they get a suspect.
    """

    def __init__(self) -> None:
        self._doubted: set[int] = set()
        """The connections of a gateway that ended early."""
        self._suspects: dict[int, int] = {}
        """Those by which a gateway may have ended, and how often one was killed that had it alone; 0 after a crash."""
        self._parts: deque[list[int]] = deque()
        self._alone: list[tuple[float, int]] = []
        """The connections that were given alone, and when."""

    def __repr__(self) -> str:
        return f"<TakeoverOrder doubted={len(self._doubted)} suspects={self._suspects}>"

    def begin(self, cids: Collection[int]) -> None:
        """A gateway begins to take over these connections."""
        known = sorted(cids, key=lambda cid: (cid in self._doubted) + (cid in self._suspects))
        self._parts = deque([[cid for cid in known if cid not in self._doubted]])
        self._parts.extend([cid] for cid in known if cid in self._doubted)
        self._alone = []

    def next_part(self, now: float) -> list[int] | None:
        """The connections that are given next; None if all are taken up. The gateway has taken up those before."""
        part = self._parts.popleft() if self._parts else None
        if part and part[0] in self._doubted:
            self._alone.append((now, part[0]))
        return part

    @property
    def must_be_heard(self) -> bool:
        """Whether the gateway must be heard again before the next part: the last one may have frozen it."""
        return any(self._suspects.get(cid) == 0 for _, cid in self._alone[-1:])

    @property
    def settle_s(self) -> float:
        """The wait before the next part: a suspect gets time to show what it does, and so do those before it."""
        following = self._parts[0] if self._parts else []
        last = [cid for _, cid in self._alone[-1:]]
        if not any(cid in self._suspects for cid in (*following, *last)):
            return 0.0
        is_first = not any(cid in self._suspects for cid in last)
        return STABLE_S if is_first and any(self._suspects.get(cid) == 0 for cid in following) else SETTLE_S

    def ended_early(
        self, cids: Collection[int], now: float, *, crashed: bool, answered: bool, frozen: bool = False
    ) -> int | None:
        """Notes the end of a gateway that had these connections, and returns the one that must be cut, if any.

        SIGKILL may come from outside at any moment: the last connection, not yet taken up, is cut the fifth time. The
        end of a gateway that was `frozen` is the moment at which it was last heard.
        """
        recent = [cid for at, cid in self._alone if now - at <= SETTLE_S]
        if frozen and self._alone and self._alone[-1][1] in self._suspects:
            recent = [self._alone[-1][1]]  # the gateway was heard behind the suspect before
        if not self._alone:
            self._doubted = set(cids)
        elif crashed and recent:
            is_sure = len(recent) == 1 and recent[0] in self._suspects
            self._suspect(recent)
            return recent[0] if is_sure else None
        elif not crashed and not answered:
            last = self._alone[-1][1]
            kills = self._suspects.get(last, 0) + 1
            self._suspect([last])
            self._suspects[last] = kills
            return last if kills >= MOST_KILLS else None
        return None

    def settled(self) -> None:
        """The gateway has served for a while, and no connection is doubted."""
        self._doubted, self._suspects = set(), {}

    def _suspect(self, cids: Collection[int]) -> None:
        """Doubts these connections alone, of those that were given alone."""
        self._doubted -= {cid for _, cid in self._alone if cid not in cids}
        self._suspects = dict.fromkeys(cids, 0)
