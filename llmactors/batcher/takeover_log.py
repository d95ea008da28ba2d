"""The log lines about claims that are not the first of their request: takeovers, and requests in quarantine."""

from collections.abc import Iterable

from llmactors.ledger import Claim, ClaimEnd
from llmactors.telemetry.bounded_log import BoundedLog, Level

_IN_ORDER = {ClaimEnd.HANDED_BACK, ClaimEnd.PREEMPTED}
"""The ends of claims at which nothing was lost."""


class TakeoverLog:
    """Logs each takeover that `worker` makes, in at most a hundred lines in ten seconds."""

    def __init__(self, log: BoundedLog | None = None) -> None:
        self._log = log or BoundedLog("llmactors.batcher")

    def __repr__(self) -> str:
        return f"<TakeoverLog {self._log!r}>"

    def note(self, worker: str, claims: Iterable[Claim]) -> None:
        """Logs those of `claims`, which `worker` has just made, that another claim came before.

        A request that was handed back before its first token has lost nothing, and is logged at the level debug.
        """
        for claim in claims:
            if claim.earlier:
                self._note(worker, claim)

    def _note(self, worker: str, claim: Claim) -> None:
        last = claim.earlier[-1]
        level: Level = "info" if claim.tokens else "debug"
        if last.ended not in _IN_ORDER:
            level = "warning"
        self._log.write(
            level,
            "a worker goes on with a request of another claim",
            request_id=claim.request.id,
            model=claim.request.model,
            worker=worker,
            from_worker=last.worker,
            cause=last.ended and last.ended.value,
            detail=last.detail,
            next_token=len(claim.tokens) + 1,
            attempt=claim.attempt,
            epoch=claim.epoch,
        )
        if claim.quarantined:
            self._log.write(
                "warning",
                "a request runs in quarantine, with few others or alone, because its earlier attempts ended in crashes",
                request_id=claim.request.id,
                model=claim.request.model,
                worker=worker,
                attempt=claim.attempt,
                causes=[note.detail or (note.ended and note.ended.value) for note in claim.earlier[-3:]],
            )
