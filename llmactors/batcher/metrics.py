"""What a batcher counts. The system hands in something that counts for real."""

from collections.abc import Iterable
from typing import Protocol


class BatcherMetrics(Protocol):
    """Called once per step or batch, never per token."""

    def batch(self, size: int, waits_s: Iterable[float] = ()) -> None:
        """So many requests got their slots together, after these times in the queue."""
        ...

    def step(self, size: int, tokens: int) -> None:
        """One step of the backend: how many sequences took part, how many tokens came out."""
        ...

    def worker_error(self) -> None:
        """A request failed in the backend, or the backend died."""
        ...
