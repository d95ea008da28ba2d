"""Counts the open requests of each caller. Pure."""

from llmactors.limiter.charges import Charge
from llmactors.limiter.policy import MICROSECONDS, LimitDecision

PERMIT_WAIT_US = MICROSECONDS
"""The retry time of a refused request. Nobody can predict when an open request ends, so the caller should try again."""


class Permits:
    """The ids of the open requests of each key. To close a request twice, or one that is not open, has no effect."""

    def __init__(self) -> None:
        self._open: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Permits { ({key: len(ids) for key, ids in self._open.items()}) }>"

    def count(self, key: str) -> int:
        return len(self._open.get(key, ()))

    def open(self, key: str, request_id: str) -> None:
        self._open.setdefault(key, set()).add(request_id)

    def close(self, key: str, request_id: str) -> None:
        ids = self._open.get(key, set())
        ids.discard(request_id)
        if not ids:
            self._open.pop(key, None)


def permit_wait_us(charge: Charge, count: int, cost: int) -> int | None:
    """As `Algorithm.wait_us`, for a CONCURRENT charge of which `count` are open."""
    if cost > charge.most:
        return None
    return PERMIT_WAIT_US if cost and count + cost > charge.most else 0


def permit_decision(charge: Charge, count: int, wait: int | None) -> LimitDecision:
    """As `Algorithm.decision`, for a CONCURRENT charge of which `count` are open, the admitted ones included."""
    retry_after_s = wait / MICROSECONDS if wait else None
    return LimitDecision(wait == 0, charge.most, max(0, charge.most - count), 0.0, retry_after_s)
