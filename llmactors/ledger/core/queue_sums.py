"""Adds up what waits, by model, class and tenant. Pure."""

from llmactors.ledger.inspection import QueueShare, oldest_first


class QueueSums:
    """The sums over waiting requests. Both ledgers add one request after the other."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int, str], tuple[int, float, float]] = {}

    def __repr__(self) -> str:
        return f"<QueueSums of {len(self._sums)} rows>"

    def add(self, key: tuple[str, int, str], cost: float, waited_s: float) -> None:
        """Adds one request. `key` is its model, class and tenant."""
        waiting, total, oldest_s = self._sums.get(key, (0, 0.0, 0.0))
        self._sums[key] = waiting + 1, total + cost, max(oldest_s, waited_s)

    def shares(self) -> list[QueueShare]:
        """At most `OPEN_REQUESTS_SHOWN` rows, the oldest wait first."""
        return oldest_first(QueueShare(*key, *sums) for key, sums in self._sums.items())
