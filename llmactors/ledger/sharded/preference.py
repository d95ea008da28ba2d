"""Which shards a worker claims from first. Pure.

Each step of a worker is one append to each shard that has some of its requests, and each append is one message to each
gateway. So the workers of a model divide the shards among themselves. The workers, in the order of their names, have
equal parts of a line on which the shards lie one behind the other, and a worker prefers the shards on its part. It
claims from others what its own leave free.

While most slots are taken, the shards lie on the line with their weights (`rotation.weights`), so that tenants are
served alike wherever they wait. Workers are not equally fast, and some take nothing. So each worker compares how far
the fair queues of the shards have come: the virtual time of a queue is what each tenant that waits there was served.
Where a shard falls behind by more than the work of two turns, no shard is preferred until it has caught up.
"""

from collections.abc import Collection, Mapping

from llmactors.ledger.sharded.rotation import weights
from llmactors.ledger.values import QueueView

_LEAST_PART = 1 / 8
"""A worker does not prefer a shard that would have a smaller part of its claims: each further shard is an append."""
_BEHIND_BY_TURNS = 2.0
_CATCHES_UP = 2.0
"""How many times its weight a shard has while it is behind."""
_TURN_KEPT = 0.98


class Preference:
    """What one worker knows of the queues of one model on all shards."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.weights: dict[int, float] = {}
        """The weight of each shard in the turns of workers that prefer none."""
        self._claimers: list[str] = []
        self._progress = _Progress()

    def __repr__(self) -> str:
        return f"<Preference of {len(self._claimers)} workers, {self._progress!r}>"

    def learn(self, views: Mapping[int, QueueView]) -> None:
        """Takes what the shards say now. A worker has other names on shards that have ended its lease once."""
        self.weights = weights({shard: view.waiting for shard, view in views.items()})
        self._claimers = sorted({name.partition("~")[0] for view in views.values() for name in view.claimers})
        self._progress.learn(views)
        for shard in self._progress.behind:
            self.weights[shard] *= _CATCHES_UP

    def own_shards(self, shards: Collection[int], *, is_mostly_free: bool) -> dict[int, float]:
        """The shards that the worker prefers, each with its part of the worker's claims; none where it prefers none.

        A worker that is mostly free takes all that waits, so the lengths of queues are chance.
        """
        if not shards or self._worker not in self._claimers or (self._progress.behind and not is_mostly_free):
            return {}
        of_line = {shard: 1.0 if is_mostly_free else self.weights.get(shard, 1.0) for shard in sorted(shards)}
        return part_of_line(self._claimers.index(self._worker), len(self._claimers), of_line)


def part_of_line(place: int, workers: int, lengths: Mapping[int, float]) -> dict[int, float]:
    """The shards on the part of a line that the worker at this place has, and how much of each, of its part."""
    scale = workers / sum(lengths.values())
    found: dict[int, float] = {}
    begin = 0.0
    for shard, length in lengths.items():
        end = begin + length * scale
        shared = min(end, place + 1) - max(begin, place)
        if shared >= _LEAST_PART:
            found[shard] = shared
        begin = end
    return found or dict.fromkeys(lengths, 1.0)


class _Progress:
    """How far the most urgent queues of all shards have come, as long as something waits in them."""

    def __init__(self) -> None:
        self.behind: set[int] = set()
        """The shards that must catch up."""
        self._urgent: int | None = None
        self._before: dict[int, float] = {}
        self._lead: dict[int, float] = {}
        self._turn = 0.0
        """The most by which a queue has come forward between two looks, a little less with each look."""

    def __repr__(self) -> str:
        return f"behind: {sorted(self.behind) or 'none'}"

    def learn(self, views: Mapping[int, QueueView]) -> None:
        urgent = min((each for view in views.values() for each in view.waiting), default=None)
        if urgent != self._urgent:
            self._urgent, self._before, self._lead, self.behind = urgent, {}, {}, set()
        now = {
            shard: view.served.get(urgent, 0.0)
            for shard, view in views.items()
            if urgent is not None and urgent in view.waiting
        }
        self._turn *= _TURN_KEPT
        lead: dict[int, float] = {}
        for shard, served in now.items():
            before = self._before.get(shard)
            if before is not None and before <= served:
                self._turn = max(self._turn, served - before)
                lead[shard] = self._lead[shard] + served - before
        # A queue that begins, or begins anew, does not catch up with what it was not there for.
        front = max(lead.values(), default=0.0)
        self._before, self._lead = now, {shard: lead.get(shard, front) for shard in now}
        late = {shard: front - at for shard, at in self._lead.items()}
        fell_behind = any(by > _BEHIND_BY_TURNS * self._turn for by in late.values())
        if self.behind or fell_behind:
            self.behind = {shard for shard, by in late.items() if by > self._turn}
