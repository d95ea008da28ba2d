"""What a batcher is told, besides what its backend says."""

import attrs


@attrs.frozen
class DrainBatcher:
    """Ask a batcher this to have it hand everything back and claim nothing any more: its node is to end.

    Answered once the batcher holds no claim. The requests go on elsewhere from their logs.
    """


@attrs.frozen
class SlotsFreed:
    """The batcher's writer says: requests have ended or were dropped, so slots may be free."""


@attrs.frozen
class BatchDue:
    """The batcher's timer says: the window of a static batch is over."""
