"""How fast a queue moves, from which a wait is estimated. Pure."""

WINDOW_S = 5.0
"""The rate is measured over the last one to two windows."""
_LEAST_S = 0.2
"""No rate is given before this time has passed."""


class ServiceRate:
    """Counts claims from one queue while others wait in it. A queue that was empty gets a new `ServiceRate`.

    From a queue that has not moved yet, a claim is assumed to be due: one request in `now - waiting_since`.
    """

    def __init__(self, waiting_since: float) -> None:
        self._waiting_since = waiting_since
        self._since: float | None = None
        self._count = 0
        self._before: float | None = None
        """Requests per second in the previous window."""

    def __repr__(self) -> str:
        return f"<ServiceRate: {self._count} since {self._since}>"

    def claimed(self, now: float) -> None:
        """Counts a claim that left others waiting."""
        if self._since is None:
            self._since = now
        else:
            self._count += 1
            if now - self._since >= WINDOW_S:
                self._before = self._count / (now - self._since)
                self._since, self._count = now, 0

    def per_second(self, now: float) -> float | None:
        """Requests per second; None while too little is known."""
        elapsed = now - (self._waiting_since if self._since is None else self._since)
        if self._before is not None:
            return (self._count + self._before * WINDOW_S) / (elapsed + WINDOW_S)
        return max(self._count, 1) / elapsed if elapsed >= _LEAST_S else None
