"""Frozen snapshots of a running tree, for `/tree`, metrics and tests."""

import attrs

from llmactors.actors.mailbox import MailboxStatistics


@attrs.frozen
class ActorStatistics:
    """One actor."""

    name: str
    path: str
    state: str
    """`running`, `starting`, `restarting`, `stopping` or `stopped`."""
    incarnation: int
    restarts: int
    """Starts after the first."""
    handled: int
    """Messages handled to their end, by all incarnations."""
    in_hand_s: float
    """How long the message in hand has been worked on; 0 when idle."""
    last_exit: str
    """How the last incarnation ended; empty if none has."""
    mailbox: MailboxStatistics


@attrs.frozen
class SupervisorStatistics:
    """One supervisor and all below it."""

    name: str
    path: str
    state: str
    strategy: str
    intensity: int
    period_s: float
    incarnation: int
    restarts: int
    recent_restarts: int
    """How many restarts of its children count against its intensity."""
    last_exit: str
    children: "tuple[ActorStatistics | SupervisorStatistics, ...]"
