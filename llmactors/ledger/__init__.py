"""Requests, leases and token logs: the only record of what clients asked and what workers answered.

A gateway submits, follows and cancels requests. A worker beats, claims, appends and finishes. Any node reaps. An
operator looks at queues and dead letters. Each accepted request gets exactly one terminal event, as the last entry of
its log, whichever of these processes dies.

contract, values        the operations; what they take and answer
usage, usage_rows       what ended requests have used, for operators; as rows of JSON and CSV
request_size, settings  how large a request is; the bounds and times
memory, redis/          the ledgers: in one process; over Redis, for many
sharded/                a ledger over several ledgers, as for several servers of Redis
core/                   the pure parts: state changes, queue, leases, logs
inspection              what operators see of requests and of the queue
dead_letters            what operators do with one dead letter
actor                   ends what is overdue, and logs dead letters
follower                a reader's position in a log
change_signal           wakes a worker when there is work
"""

from llmactors.ledger.contract import Follower, Ledger
from llmactors.ledger.inspection import QueueShare, RequestFilter, RequestTimes, RequestView, RequestViews
from llmactors.ledger.memory import MemoryLedger
from llmactors.ledger.request_size import RequestSize
from llmactors.ledger.settings import LedgerSettings
from llmactors.ledger.usage import UsageBy, UsagePage, UsageRecord, UsageReport, UsageSum, UsageTotal
from llmactors.ledger.values import (
    AdmitResult,
    AppendEntry,
    AppendOutcome,
    AppendResult,
    BeatResult,
    Candidate,
    Claim,
    ClaimEnd,
    ClaimNote,
    DeadRequest,
    LedgerStatistics,
    LogSlice,
    ModelDemand,
    News,
    Preemption,
    QueueDepth,
    QueuePlace,
    ReleaseHow,
    RequestInfo,
    SlotOffer,
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
    "ClaimEnd",
    "ClaimNote",
    "DeadRequest",
    "Follower",
    "Ledger",
    "LedgerSettings",
    "LedgerStatistics",
    "LogSlice",
    "MemoryLedger",
    "ModelDemand",
    "News",
    "Preemption",
    "QueueDepth",
    "QueuePlace",
    "QueueShare",
    "ReleaseHow",
    "RequestFilter",
    "RequestInfo",
    "RequestSize",
    "RequestTimes",
    "RequestView",
    "RequestViews",
    "SlotOffer",
    "SubmitOutcome",
    "UsageBy",
    "UsagePage",
    "UsageRecord",
    "UsageReport",
    "UsageSum",
    "UsageTotal",
]
