"""How fast a queue moves, so that a wait can be foretold. Pure."""

WINDOW_S = 5.0
"""The past that is looked at: one to two windows."""
_LEAST_S = 0.2
"""In less than this nothing can be said."""


class Pace:
    """Counts what is claimed while more waits. Its owner begins a new one once nothing waits."""

    def __init__(self) -> None:
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
        if self._since is None:
            return None
        elapsed = now - self._since
        if self._before is not None:
            return (self._count + self._before * WINDOW_S) / (elapsed + WINDOW_S)
        return self._count / elapsed if elapsed >= _LEAST_S and self._count else None
