"""Frozen snapshots of a running tree, for `/tree`, metrics and tests."""

import attrs

from llmactors.actors.mailbox import MailboxStatistics


@attrs.frozen
class ActorStatistics:
    """A snapshot of one actor."""

    name: str
    path: str
    state: str
    """`running`, `starting`, `restarting`, `stopping` or `stopped`."""
    incarnation: int
    restarts: int
    """Starts after the first."""
    handled: int
    """Messages that all incarnations together have handled without a crash."""
    in_hand_s: float
    """How long the actor has worked on the message in hand; 0 when the actor is idle."""
    last_exit: str
    """How the last incarnation ended; empty if none has ended."""
    mailbox: MailboxStatistics


@attrs.frozen
class SupervisorStatistics:
    """A snapshot of one supervisor, and of all its children."""

    name: str
    path: str
    state: str
    strategy: str
    intensity: int
    period_s: float
    incarnation: int
    restarts: int
    recent_restarts: int
    """The restarts of children that count against the intensity."""
    last_exit: str
    children: "tuple[ActorStatistics | SupervisorStatistics, ...]"
