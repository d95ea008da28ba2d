"""Who has how much open at once. Pure."""

from llmactors.limiter.charges import Charge
from llmactors.limiter.policy import MICROSECONDS, Decision

PERMIT_WAIT_US = MICROSECONDS
"""What is said to who asks for more than may be open at once: an end cannot be foretold, so look again then."""


class Permits:
    """The open requests of each key, by id: one that is closed twice, or never was open, changes nothing."""

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
    """As an algorithm's, for a CONCURRENT charge of which `count` are open."""
    if cost > charge.most:
        return None
    return PERMIT_WAIT_US if cost and count + cost > charge.most else 0


def permit_decision(charge: Charge, count: int, wait: int | None) -> Decision:
    """As an algorithm's, for a CONCURRENT charge of which `count` are open, with what was admitted."""
    retry_after_s = wait / MICROSECONDS if wait else None
    return Decision(wait == 0, charge.most, max(0, charge.most - count), 0.0, retry_after_s)
