"""How a batcher behaves."""

import attrs


@attrs.frozen
class BatcherSettings:
    """Times are in seconds."""

    window_s: float = 0.02
    """How long a request may wait for others to share its static batch, counted from when it was queued.

    10 to 30 ms is usual: short beside an answer, long beside the gaps of a burst. 0 starts each batch at once. Only
    `Batching.STATIC` backends have such batches; no request to another backend ever waits for this.
    """
    node: str = ""
    """The name of the node, by which the ledger knows a new incarnation of a worker. Empty: the worker has no name."""
    preempt_every_s: float = 0.0
    """How often a batcher without a free slot asks whether one of its requests has to give up its slot. 0: never."""
    least_turn_s: float = 1.0
    """How long a request runs before it may give up its slot."""
    beat_every_s: float = 1.0
    """How often the lease is renewed; well below the ledger's `lease_s`."""
    max_unwritten: int = 65_536
    """How many tokens may wait to be appended, as while the ledger is away; the backend pauses at more."""
