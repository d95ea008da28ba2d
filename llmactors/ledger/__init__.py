"""Requests, leases and token logs: the only truth about what was asked and what was answered.

`contract` says what a ledger promises; `MemoryLedger` keeps the promise within one process. A gateway submits,
follows and cancels; a worker beats, claims, appends and finishes; anyone reaps. Each accepted request gets exactly
one terminal event, as the last entry of its log, whoever of these dies in between.

contract, settings      what is promised; the bounds and times
memory, redis/          the ledgers: in one process; over Redis, for many
actor                   reaps what is overdue
lifecycle               every move that a request can make; of:
  record, token_log     one request; its log, as this process has it
  backlog, class_queue, who waits, and who is next: bounds, priority classes, fairness among tenants, how fast it goes
  fair_queue, pace
  leases, presence,     who is alive, and holds what; whether anybody reads; what is due when; what ended requests leave
  timers, archive
follower, news          how a reader learns that a log grew, and a worker that there is something to look at
digest                  whether two know the same history
"""

from llmactors.ledger.contract import (
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadLetter,
    Follower,
    Ledger,
    LedgerStatistics,
    LogSlice,
    ReleaseHow,
    RepairOutcome,
    RequestInfo,
    SubmitOutcome,
    Verdict,
)
from llmactors.ledger.digest import log_digest
from llmactors.ledger.memory import MemoryLedger
from llmactors.ledger.settings import LedgerSettings

__all__ = [
    "AppendEntry",
    "AppendOutcome",
    "AppendResult",
    "BeatResult",
    "Candidate",
    "Claim",
    "DeadLetter",
    "Follower",
    "Ledger",
    "LedgerSettings",
    "LedgerStatistics",
    "LogSlice",
    "MemoryLedger",
    "ReleaseHow",
    "RepairOutcome",
    "RequestInfo",
    "SubmitOutcome",
    "Verdict",
    "log_digest",
]
