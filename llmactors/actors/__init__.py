"""The actor runtime: mailboxes, addresses, incarnations, supervision. The runtime imports nothing else of llmactors.

SEMANTICS.md beside this file says what the runtime promises, and what it does not promise.

actor        what a programmer writes: `Actor`, and the specs of actors and supervisors
ref          the address of an actor: `tell` and `ask`
children     the address of a supervisor: more children while it runs
registry     finds actors by name
timers       messages that an incarnation sends to itself later
mailbox      a bounded queue that outlives the actor's crashes
envelope     what travels through a mailbox
incarnation  runs one actor: start, message loop, cleanup
planner      the rules of supervision, as a table; pure
backoff      the wait before a restart; pure
start_times  when children are started again; pure
child_run    runs one child once, from its start to its end
supervisor   starts, stops and restarts children as the planner says
tree         builds a tree from specs, runs it and stops it
stop         a request to stop that calls back
shutdown     runs the phases of a shutdown under one deadline
deadletters  messages that were given up
observer     where logs and metrics are attached
statistics   snapshots of a running tree
errors       the runtime's errors
"""

from llmactors.actors.actor import Actor, ActorSpec, Context, SupervisorSpec
from llmactors.actors.backoff import NO_BACKOFF, Backoff
from llmactors.actors.children import SupervisorRef
from llmactors.actors.deadletters import DeadLetter, DeadLetters, DeadReason
from llmactors.actors.envelope import Down, Exit, ExitKind, Question, Reply, describe, fatal, leaves
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
from llmactors.actors.planner import Planner, Restart, RestartPlan, Strategy
from llmactors.actors.ref import ActorRef
from llmactors.actors.shutdown import Phase, run_phases
from llmactors.actors.statistics import ActorStatistics, SupervisorStatistics
from llmactors.actors.timers import Timer
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
    "Planner",
    "Question",
    "Reply",
    "Restart",
    "RestartIntensityExceeded",
    "RestartPlan",
    "StartFailed",
    "Strategy",
    "SupervisorRef",
    "SupervisorSpec",
    "SupervisorStatistics",
    "Timer",
    "Tree",
    "describe",
    "fatal",
    "leaves",
    "run_phases",
]
