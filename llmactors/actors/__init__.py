"""The actor runtime: mailboxes, addresses, incarnations, supervision. It knows nothing of models, HTTP or Redis.

Read SEMANTICS.md beside this file first: what is promised, and what is not.
"""

from llmactors.actors.actor import Actor, ActorSpec, Context, SupervisorSpec
from llmactors.actors.backoff import NO_BACKOFF, Backoff
from llmactors.actors.deadletters import DeadLetter, DeadLetters, DeadReason
from llmactors.actors.envelope import Down, Exit, ExitKind, describe, leaves
from llmactors.actors.errors import (
    ActorDied,
    ActorError,
    AskFailed,
    HandlerHung,
    MailboxFull,
    MessageExpired,
    MisuseError,
    RestartIntensityExceeded,
    StartFailed,
)
from llmactors.actors.mailbox import MailboxStatistics, Overflow
from llmactors.actors.observer import Observer
from llmactors.actors.planner import Plan, Planner, Restart, Strategy
from llmactors.actors.ref import ActorRef
from llmactors.actors.shutdown import Phase, run_phases
from llmactors.actors.statistics import ActorStatistics, SupervisorStatistics
from llmactors.actors.tree import Tree

__all__ = [
    "NO_BACKOFF",
    "Actor",
    "ActorDied",
    "ActorError",
    "ActorRef",
    "ActorSpec",
    "ActorStatistics",
    "AskFailed",
    "Backoff",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "DeadReason",
    "Down",
    "Exit",
    "ExitKind",
    "HandlerHung",
    "MailboxFull",
    "MailboxStatistics",
    "MessageExpired",
    "MisuseError",
    "Observer",
    "Overflow",
    "Phase",
    "Plan",
    "Planner",
    "Restart",
    "RestartIntensityExceeded",
    "StartFailed",
    "Strategy",
    "SupervisorSpec",
    "SupervisorStatistics",
    "Tree",
    "describe",
    "leaves",
    "run_phases",
]
