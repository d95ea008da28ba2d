"""Which waiting requests form the next batch. Pure: no Trio, no clock; `now` is an argument, in seconds.

For backends that run a batch to its end. Only requests of one `max_tokens` share a batch, because a batch lasts as long
as its longest member. A batch is due when it is full, when its oldest member has waited for the window, or when
the backend is idle: a window spent beside an idle backend is lost.
"""

import math
from collections import deque

import attrs

from llmactors.ledger.contract import Claim


@attrs.frozen
class Waiting:
    """One request in the window."""

    claim: Claim
    since: float


@attrs.define
class BatchFormer:
    """The window."""

    window_s: float = 0.02
    """10 to 30 ms is usual: short beside an answer, long beside the gaps of a burst."""
    max_batch: int = 32
    _groups: dict[int, deque[Waiting]] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, claim: Claim, now: float) -> None:
        """Puts a request into the window."""
        self._groups.setdefault(claim.request.max_tokens, deque()).append(Waiting(claim, now))

    def drop(self, keys: frozenset[tuple[str, int]]) -> None:
        """Takes requests out, by (request id, epoch)."""
        for size, group in list(self._groups.items()):
            kept = deque(item for item in group if (item.claim.request.id, item.claim.epoch) not in keys)
            self._put(size, kept)

    def clear(self) -> list[Claim]:
        """Takes everything out, oldest first."""
        everything = sorted((item for group in self._groups.values() for item in group), key=lambda item: item.since)
        self._groups.clear()
        return [item.claim for item in everything]

    def next_batch(self, now: float, *, idle: bool, free: int) -> list[Waiting]:
        """The next batch that is due, at most `free` large, out of the group with the oldest member; empty if none."""
        for size, group in sorted(self._groups.items(), key=lambda entry: entry[1][0].since):
            # The same sum as in `next_due`: a difference is rounded in another way, and could miss the moment.
            if free > 0 and (idle or len(group) >= self.max_batch or now >= group[0].since + self.window_s):
                batch = [group.popleft() for _ in range(min(len(group), self.max_batch, free))]
                self._put(size, group)
                return batch
        return []

    def next_due(self) -> float:
        """When the oldest member will have waited for the window; infinity while there is none."""
        return min((group[0].since + self.window_s for group in self._groups.values()), default=math.inf)

    def _put(self, size: int, group: deque[Waiting]) -> None:
        if group:
            self._groups[size] = group
        else:
            self._groups.pop(size, None)
