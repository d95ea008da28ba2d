"""Requests, leases and token logs: the only truth about what was asked and what was answered.

`contract` says what a ledger promises; `MemoryLedger` keeps the promise within one process. A gateway submits,
follows and cancels; a worker beats, claims, appends and finishes; anyone reaps. Each accepted request gets exactly
one terminal event, as the last entry of its log, whoever of these dies in between.
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
