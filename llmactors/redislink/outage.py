"""Whether Redis serves this node, from what each of the node's links finds. Pure: `now` is in seconds."""

import enum

import attrs

_SAY_AGAIN_S = 20.0
_SAY_BEGIN_EVERY_S = 10.0


@attrs.frozen
class Problem:
    """Why a link cannot serve."""

    kind: str
    """`connection`, or the kind of an error reply: a label of metrics."""
    reason: str
    """For logs and operators."""


class Said(enum.Enum):
    """What is to be logged of an outage."""

    BEGAN = "began"
    GOES_ON = "goes on"
    ENDED = "ended"


@attrs.define
class Outage:
    """The present outage, if there is one, and the sum of all outages since the start.

    An outage begins with the first problem of any link, and ends when no link has one. Its begin is said once, but at
    most every ten seconds; a long outage is said again every twenty seconds; the end of an outage is said if its begin
    was.
    """

    problems: dict[str, Problem] = attrs.field(factory=dict)
    """The problem of each link that has one, by the link's name."""
    began: dict[str, int] = attrs.field(factory=dict)
    """How many outages there were, by the kind of their first problem."""
    _since: float = 0.0
    _ended_s: float = 0.0
    _said_begin_at: float | None = None
    _said_at: float = 0.0
    _is_said: bool = False

    def note(self, link: str, problem: Problem | None, now: float) -> Said | None:
        """Takes in what a link found, and returns what is to be logged now, if anything is."""
        had = bool(self.problems)
        if problem is None:
            self.problems.pop(link, None)
        else:
            self.problems[link] = problem
        if not self.problems:
            return self._end(now) if had else None
        if not had:
            self._since = now
            if problem is not None:
                self.began[problem.kind] = self.began.get(problem.kind, 0) + 1
        return self._say(now)

    def lasted_s(self, now: float) -> float:
        """How long the present outage, or the last one, has lasted."""
        return now - self._since

    def total_s(self, now: float) -> float:
        """The time of all outages since the start, the present one included."""
        return self._ended_s + (now - self._since if self.problems else 0.0)

    def _end(self, now: float) -> Said | None:
        self._ended_s += now - self._since
        was_said, self._is_said = self._is_said, False
        return Said.ENDED if was_said else None

    def _say(self, now: float) -> Said | None:
        if self._is_said:
            if now - self._said_at < _SAY_AGAIN_S:
                return None
            self._said_at = now
            return Said.GOES_ON
        if self._said_begin_at is not None and now - self._said_begin_at < _SAY_BEGIN_EVERY_S:
            return None
        self._is_said = True
        self._said_at = self._said_begin_at = now
        return Said.BEGAN
