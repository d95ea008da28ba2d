"""Requests, leases and token logs: the only truth about what was asked and what was answered.

`contract` says what a ledger promises; `MemoryLedger` keeps the promise within one process. A gateway submits,
follows and cancels; a worker beats, claims, appends and finishes; anyone reaps. Each accepted request gets exactly
one terminal event, as the last entry of its log, whoever of these dies in between.

contract, values        the operations; what they take and answer
request_size, settings  how large a request is; the bounds and times
memory, redis/          the ledgers: in one process; over Redis, for many
core/                   the pure parts: state changes, queue, leases, logs
actor                   ends what is overdue
follower, news          how a reader learns that a log grew, and a worker that there is work
"""

from llmactors.ledger.contract import Follower, Ledger
from llmactors.ledger.memory import MemoryLedger
from llmactors.ledger.request_size import RequestSize
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    DeadRequest,
    LedgerStatistics,
    LogSlice,
    QueueDepth,
    ReleaseHow,
    RequestInfo,
    SubmitOutcome,
)

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
    "QueueDepth",
    "ReleaseHow",
    "RequestInfo",
    "RequestSize",
    "SubmitOutcome",
]
