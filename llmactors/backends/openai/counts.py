"""What became of the tries at one upstream, counted for the metrics. Pure."""

from collections import Counter

import attrs

ANSWERED = "answered"
CANCELLED = "cancelled"
WON = "won"
LOST = "lost"
FAILED = "failed"


@attrs.frozen
class UpstreamCounts:
    """The counts of one upstream, which outlive the incarnations of the backend."""

    tries: Counter[str] = attrs.field(factory=Counter)
    """The tries by their outcome: `answered` at the first token, `cancelled`, or the label of the fault."""
    hedges: Counter[str] = attrs.field(factory=Counter)
    """The requests that the upstream got because another one was late, by outcome: `won`, `lost` or `failed`."""
    failovers: Counter[str] = attrs.field(factory=Counter)
    """The requests that went from this upstream to another one, by the label of the fault."""
