"""From which shards a worker claims. Pure.

Each shard is fair among the tenants that wait there. A worker with few free slots cannot ask all shards at once, and
must not ask all of them equally often: a tenant that waits alone on one shard would get as much as ten that wait
together on another. So shards take turns by weights: the numbers of tenants that wait there in the most urgent class
that waits anywhere. A shard where only less urgent requests wait has a small weight, so that they do not starve.
"""

from collections.abc import Collection, Mapping

LESS_URGENT = 1 / 16
"""The weight of a tenant whose requests are less urgent than those on another shard: a class that is passed over gets
one of 16 claims on one shard too."""

Waiting = Mapping[int, int]
"""How many tenants wait in each priority class of one model, on one shard."""


def weights(waiting: Mapping[int, Waiting]) -> dict[int, float]:
    """The weight of each shard from what waits there. A shard of which nothing is known weighs as one tenant."""
    most_urgent = min((min(classes) for classes in waiting.values() if classes), default=0)
    return {shard: _weight(classes, most_urgent) for shard, classes in waiting.items()}


def _weight(classes: Waiting, most_urgent: int) -> float:
    if not classes:
        return 1.0
    return float(classes.get(most_urgent, 0)) or LESS_URGENT * classes[min(classes)]


class Rotation:
    """The turns of the shards for one worker and model."""

    def __init__(self) -> None:
        self._credits: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Rotation {self._credits}>"

    def share(self, slots: int, shards: Collection[int], weight_of: Mapping[int, float]) -> dict[int, int]:
        """How many of the free slots each shard is asked to fill. Over many calls each shard gets its part.

        A shard that was not asked for a while does not catch up: its credit begins anew.
        """
        self._credits = {shard: self._credits.get(shard, 0.0) for shard in sorted(shards)}
        shares = dict.fromkeys(self._credits, 0)
        total = sum(weight_of.get(shard, 1.0) for shard in shares)
        for _ in range(slots):
            for shard in shares:
                self._credits[shard] += weight_of.get(shard, 1.0)
            chosen = max(shares, key=self._credits.__getitem__)
            self._credits[chosen] -= total
            shares[chosen] += 1
        return {shard: count for shard, count in shares.items() if count}
