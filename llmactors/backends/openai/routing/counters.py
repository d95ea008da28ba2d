"""Counts of what became of the requests to one upstream, and when it last answered. Pure."""

import math
from collections import Counter

import attrs

ANSWERED = "answered"
CANCELLED = "cancelled"
WON = "won"
LOST = "lost"
FAILED = "failed"


@attrs.define
class UpstreamCounters:
    """The counts of one upstream, which outlives the incarnations of the backend."""

    tries: Counter[str] = attrs.field(factory=Counter)
    """The tries by their outcome: `answered` at the first token, `cancelled`, or the label of the fault."""
    hedges: Counter[str] = attrs.field(factory=Counter)
    """The requests that the upstream got because another one was late, by outcome: `won`, `lost` or `failed`."""
    failovers: Counter[str] = attrs.field(factory=Counter)
    """The requests that went from this upstream to another one, by the label of the fault."""
    last_fault: str = ""
    """What the last fault was that counts against the upstream."""
    heard_at: float = -math.inf
    """When the upstream last did what was asked."""

    @property
    def has_answered(self) -> bool:
        """Whether the upstream has ever begun an answer."""
        return self.tries[ANSWERED] > 0
