"""In which parts a gateway gets the connections, and which connection is cut because gateways end by it. Pure."""

from collections import deque
from collections.abc import Collection
from enum import Enum

STABLE_S = 1.0
"""A gateway that serves for less has ended early."""
SETTLE_S = 0.25
"""A gateway that crashes is suspected to have done so because of the connections that it got within this time."""
MOST_SETTLE_S = 2.0
"""The longest wait before a connection that gateways had alone when they were killed."""
MOST_CRASHES = 3
"""So many gateways crash in a row behind the same suspect before that is cut."""
MOST_KILLS = 6
"""So many gateways are killed while they take up the same connection, and at no other moment, before that is cut."""
MOST_KILLED_AT = 4
"""Of so many connections the keeper notes that gateways were killed while they took the connection up."""
STARVE_S = 1.0
"""As `SETTLE_S`, for a gateway that the kernel has killed because memory ran out: that takes a while to fill."""
MOST_SLOW = 8
"""So many suspects or fewer are given `STARVE_S` apart."""


class Death(Enum):
    """How a gateway has ended."""

    KILLED = "by SIGKILL, which may have come from outside"
    CRASHED = "by itself, or by the keeper for a fault of its own"
    FROZEN = "by the keeper, because its loop stood still"
    STARVED = "by the kernel, because memory ran out"


class TakeoverOrder:
    """Gives all connections at once, until a gateway ends early: it ended before it had served for a while.

    The next gateway gets each connection that the gateway had by itself, and the next one only when it has taken up the
    one before. If it crashes, its last connections are suspects. The suspects are given last and slowly, to a gateway
    that has stood the others for a while. A suspect by which gateways end too is cut. All others are served.

    No connection is cut for what others do. Gateways that crash for other reasons crash before they get a suspect, and
    hardly so soon behind the same suspect several times in a row: the wait before the suspect gets longer.

    SIGKILL may come from outside at any moment, so it counts only for the one connection that the gateway was taking
    up. A kill at any other moment shows that kills come from outside, and none of those before it counts any more. A
    connection that is taken up is innocent of the kills before. The wait before such a connection is five times as long
    as it takes to take one up, also on a slow machine. So of the kills from outside that come behind the connections
    before it, however fast, at most one in fifteen meets the connection.

    The SIGKILL of a kernel without memory is no operator's, and counts as a crash. Memory fills slowly, so what was
    given within a longer time is suspected, and suspects are given further apart.
    """

    def __init__(self) -> None:
        self._doubted: set[int] = set()
        """The connections of a gateway that ended early."""
        self._suspects: dict[int, int] = {}
        """Those by which a gateway may have crashed, and how many in a row crashed that had the suspect alone."""
        self._kills: dict[int, int] = {}
        """The connections that gateways were taking up when they were killed, and how many gateways those were."""
        self._parts: deque[list[int]] = deque()
        self._alone: list[tuple[float, int]] = []
        """The connections that were given alone, and when."""
        self._longest_s = 0.0
        """The longest time in which a connection given alone was taken up."""
        self._shows_s = SETTLE_S
        """How long a suspect may take to show what it does."""

    def __repr__(self) -> str:
        return f"<TakeoverOrder doubted={len(self._doubted)} suspects={self._suspects} kills={self._kills}>"

    def begin(self, cids: Collection[int]) -> None:
        """A gateway begins to take over these connections."""
        known = sorted(cids, key=lambda cid: (cid in self._suspects, cid in self._kills, cid in self._doubted))
        self._parts = deque([[cid for cid in known if cid not in self._doubted]])
        self._parts.extend([cid] for cid in known if cid in self._doubted)
        self._alone = []

    def next_part(self, now: float) -> list[int] | None:
        """The connections that are given next; None if all are taken up. The gateway has taken up those before."""
        part = self._parts.popleft() if self._parts else None
        if part and part[0] in self._doubted:
            self._alone.append((now, part[0]))
        return part

    def taken_up(self, now: float) -> None:
        """The gateway has taken up the connections that were given last."""
        if self._alone:
            at, cid = self._alone[-1]
            self._longest_s = max(self._longest_s, now - at)
            self._kills.pop(cid, None)

    @property
    def must_be_heard(self) -> bool:
        """Whether the gateway must be heard again before the next part: the last one may have frozen it."""
        return any(cid in self._suspects for _, cid in self._alone[-1:])

    @property
    def settle_s(self) -> float:
        """The wait before the next part: a suspect gets time to show what it does, and so do those before it."""
        following = self._parts[0][:1] if self._parts else []
        if self.must_be_heard:
            return self._shows_s
        if (crashes := [self._suspects[cid] for cid in following if cid in self._suspects]) != []:
            return max(STABLE_S, 2 * self._shows_s) * (1 + crashes[0])
        was_killed = any(cid in self._kills for cid in following)
        return min(MOST_SETTLE_S, max(SETTLE_S, 5 * self._longest_s)) if was_killed else 0.0

    def ended_early(self, cids: Collection[int], now: float, death: Death, *, answered: bool) -> int | None:
        """Notes the end of a gateway that had these connections, and returns the one that must be cut, if any.

        `answered` says whether the gateway had taken up all that it was given. The end of a gateway that was frozen is
        the moment at which it was last heard.
        """
        if not self._alone:
            self._doubted = set(cids)
        if death is not Death.KILLED:
            return self._crashed(now, death)
        if answered or not self._alone:
            self._kills = {}
            return None
        _, last = self._alone[-1]
        kills = self._kills.pop(last, 0) + 1
        self._kills = dict([*self._kills.items(), (last, kills)][-MOST_KILLED_AT:])
        self._doubt_alone([last, *self._suspects])
        return last if kills >= MOST_KILLS else None

    def _crashed(self, now: float, death: Death) -> int | None:
        frozen, starved = death is Death.FROZEN, death is Death.STARVED
        recent = [cid for at, cid in self._alone if now - at <= (STARVE_S if starved else SETTLE_S)]
        self._shows_s = STARVE_S if starved and len(recent) <= MOST_SLOW else SETTLE_S
        if frozen and self._alone and self._alone[-1][1] in self._suspects:
            recent = [self._alone[-1][1]]  # the gateway was heard behind the suspect before
        self._kills = {}
        if not recent:
            self._suspects = dict.fromkeys(self._suspects, 0)
            return None
        crashes = self._suspects.get(recent[0], -1) + 1 if len(recent) == 1 else 0
        self._doubt_alone(recent)
        self._suspects = dict.fromkeys(recent, crashes)
        return recent[0] if crashes >= MOST_CRASHES or (frozen and crashes) else None

    def settled(self) -> None:
        """The gateway has served for a while, and no connection is doubted."""
        self._doubted, self._suspects, self._kills, self._longest_s = set(), {}, {}, 0.0

    def _doubt_alone(self, cids: Collection[int]) -> None:
        """Doubts these connections alone, of those that were given alone."""
        self._doubted -= {cid for _, cid in self._alone if cid not in cids}
