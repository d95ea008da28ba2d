"""Logs the keys of the ledger that have another type, because somebody else wrote them."""

from collections.abc import Iterable

import structlog
import trio

log = structlog.get_logger("llmactors.ledger")

_EVERY_S = 60.0
_KEPT = 256


class WrongKeys:
    """Logs each key at most once a minute."""

    def __init__(self) -> None:
        self._told_at: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"<WrongKeys {len(self._told_at)}>"

    def report(self, names: Iterable[bytes]) -> None:
        """Logs the keys of these names that were not logged in the last minute."""
        now = trio.current_time()
        for name in names:
            if now - self._told_at.get(name, -_EVERY_S) < _EVERY_S:
                continue
            if len(self._told_at) >= _KEPT:
                self._told_at.clear()
            self._told_at[name] = now
            log.error(
                "a key of the ledger in Redis has another type: somebody else wrote it, and its request cannot go on",
                key=name.decode("utf-8", "replace"),
            )
