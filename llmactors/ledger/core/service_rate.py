"""How fast a queue moves, so that a wait can be foretold. Pure."""

WINDOW_S = 5.0
"""The past that is looked at: one to two windows."""
_LEAST_S = 0.2
"""In less than this nothing can be said."""


class ServiceRate:
    """Counts what is claimed while more waits. Its owner begins a new one when something waits, and ends it with that.

    A queue that has not moved yet is taken to be about to move: in `now - waiting_since` it gave less than one request.
    """

    def __init__(self, waiting_since: float) -> None:
        self._waiting_since = waiting_since
        self._since: float | None = None
        self._count = 0
        self._before: float | None = None
        """Requests per second in the window before."""

    def __repr__(self) -> str:
        return f"<Pace: {self._count} since {self._since}>"

    def claimed(self, now: float) -> None:
        """One request was handed out, and others go on waiting."""
        if self._since is None:
            self._since = now
        else:
            self._count += 1
            if now - self._since >= WINDOW_S:
                self._before = self._count / (now - self._since)
                self._since, self._count = now, 0

    def per_second(self, now: float) -> float | None:
        """None where nothing can be said."""
        elapsed = now - (self._waiting_since if self._since is None else self._since)
        if self._before is not None:
            return (self._count + self._before * WINDOW_S) / (elapsed + WINDOW_S)
        return max(self._count, 1) / elapsed if elapsed >= _LEAST_S else None
