"""Which claimed requests form the next static batch, and when. Pure: `now` is an argument, in seconds.

Only requests of one `max_tokens` share a batch, because a batch lasts as long as its longest member. Batches begin in
the order in which their first members were claimed, which is the ledger's fair order: a group that fills up later never
overtakes an earlier one. The first group begins

- once any request here has waited for the window since it was queued, so that none waits longer beside an idle backend;
- at once, where the group cannot grow, as all slots of the backend are claimed;
- at once, where any request here was queued while the batch before ran: its window was the time of that batch.
"""

import math
from collections import deque

import attrs

from llmactors.ledger.values import Claim


@attrs.frozen
class Waiting:
    """One request that waits for its batch."""

    claim: Claim
    place: int
    """Its place in the order of claims."""
    due: float
    """When it will have waited long enough for others."""


@attrs.define
class BatchFormer:
    """The claimed requests that wait for a static batch, in groups of one `max_tokens`."""

    window_s: float = 0.02
    _groups: dict[int, deque[Waiting]] = attrs.field(factory=dict, init=False)
    _claimed: int = attrs.field(default=0, init=False)
    _ended: float = attrs.field(default=-math.inf, init=False)
    """When the newest batch ended."""

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, claim: Claim, now: float) -> None:
        """Adds a request that was claimed now."""
        queued = now - claim.waited_s
        due = now if queued < self._ended else queued + self.window_s
        self._groups.setdefault(claim.request.max_tokens, deque()).append(Waiting(claim, self._claimed, due))
        self._claimed += 1

    def drop(self, keys: frozenset[tuple[str, int]]) -> None:
        """Takes requests out, by (request id, epoch)."""
        for size, group in list(self._groups.items()):
            self._put(size, deque(item for item in group if (item.claim.request.id, item.claim.epoch) not in keys))

    def clear(self) -> list[Claim]:
        """Takes everything out, in the order of claims."""
        everything = sorted((item for group in self._groups.values() for item in group), key=lambda item: item.place)
        self._groups.clear()
        return [item.claim for item in everything]

    def batch_ended(self, now: float) -> None:
        """The backend is empty: everything that was queued before now has waited long enough."""
        self._ended = now
        for size, group in self._groups.items():
            self._groups[size] = deque(attrs.evolve(item, due=min(item.due, now)) for item in group)

    def due(self, slots: int) -> float:
        """When the next batch is to begin, if nothing is added before then; infinity where nothing waits.

        `slots` is how many requests the backend takes at once.
        """
        if not self._groups or slots < 1:
            return math.inf
        if len(self) >= slots:
            return -math.inf
        return min(item.due for group in self._groups.values() for item in group)

    def next_batch(self, now: float, slots: int) -> list[Claim]:
        """Takes the next batch out where one is due, at most `slots` large, in the order of claims; empty where not."""
        if now < self.due(slots):
            return []
        group = self._first()
        batch = [group.popleft().claim for _ in range(min(len(group), slots))]
        self._put(batch[0].request.max_tokens, group)
        return batch

    def _first(self) -> deque[Waiting]:
        return min(self._groups.values(), key=lambda group: group[0].place)

    def _put(self, size: int, group: deque[Waiting]) -> None:
        if group:
            self._groups[size] = group
        else:
            self._groups.pop(size, None)
