"""Requests, leases and token logs: the only truth about what was asked and what was answered.

`contract` says what a ledger promises; `MemoryLedger` keeps the promise within one process. A gateway submits,
follows and cancels; a worker beats, claims, appends and finishes; anyone reaps. Each accepted request gets exactly
one terminal event, as the last entry of its log, whoever of these dies in between.

contract, settings      what is promised; the bounds and times
memory, redis/          the ledgers: in one process; over Redis, for many
core/                   the pure parts: state changes, queue, leases, logs
actor                   ends what is overdue
follower, news          how a reader learns that a log grew, and a worker that there is work
digest                  whether two parties know the same log
"""

from llmactors.ledger.contract import (
    AdmitResult,
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadRequest,
    Follower,
    Ledger,
    LedgerStatistics,
    LogSlice,
    ReleaseHow,
    RepairOutcome,
    RequestInfo,
    SubmitOutcome,
)
from llmactors.ledger.digest import log_digest
from llmactors.ledger.memory import MemoryLedger
from llmactors.ledger.settings import LedgerSettings

__all__ = [
    "AdmitResult",
    "AppendEntry",
    "AppendOutcome",
    "AppendResult",
    "BeatResult",
    "Candidate",
    "Claim",
    "DeadRequest",
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
    "log_digest",
]
