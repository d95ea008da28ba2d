"""On which shard a request lives. Pure.

The last two digits of a request's id are its slot, one of 256, and the slot says the shard. So every node knows from
the id alone where a request is. A gateway chooses the last two digits of the ids that it makes, and so the shard.

A tenant has one home, where all its counters are: its limits, its budgets, and the requests that an idempotency key
names. A request that is charged lives there too, so that admission and charge are one step, and the end and the
settlement. Any other request may live anywhere.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Sequence

SLOTS = 256
"""How many slots there are, and so the most shards."""
_WITH_SLOT = re.compile(r"(?P<rest>.*[0-9a-f]{30})(?P<slot>[0-9a-f]{2})", re.DOTALL)


class Placement:
    """Chooses among `shards` shards. `admits` says whether a shard can be asked to admit a request now."""

    def __init__(self, shards: int, admits: Callable[[int], bool] = lambda _shard: True) -> None:
        if not 1 <= shards <= SLOTS:
            raise ValueError(f"a ledger has 1 to {SLOTS} shards, not {shards}")
        self.shards = shards
        self._admits = admits
        self.home_of = functools.lru_cache(4096)(self._home_of)
        """The shard that has the counters of a tenant. With one shard more, few tenants move."""

    def __repr__(self) -> str:
        return f"<Placement on {self.shards} shards>"

    def shard_of(self, request_id: str) -> int:
        """The shard of a request. An id that no gateway made has the slot of its hash."""
        found = _WITH_SLOT.fullmatch(request_id)
        slot = int(found["slot"], 16) if found else _hash(request_id) % SLOTS
        return slot % self.shards

    def place(self, request_ids: Sequence[str], tenant: str, *, at_home: bool, conversation: str = "") -> list[str]:
        """The ids under which the requests of one call are admitted, all on one shard: those that were given, but for
        the last digits.

        With `at_home` the requests live where the counters of `tenant` are. All other requests of one conversation
        live on one shard, so that a turn finds the worker that had the turn before; an empty text is no conversation.
        A shard that is away is avoided, unless the requests must live there.
        """
        if at_home:
            shard = self.home_of(tenant)
        else:
            shard = _hash(conversation) % self.shards if conversation else self.shard_of(request_ids[0])
            if not self._admits(shard):
                shard = next((each for each in self._ranked(request_ids[0]) if self._admits(each)), shard)
        return [self.moved(each, shard) for each in request_ids]

    def others(self, request_ids: Sequence[str]) -> list[list[str]]:
        """All that `place` can have made of these ids: one list for each shard."""
        return [[self.moved(each, shard) for each in request_ids] for shard in range(self.shards)]

    def moved(self, request_id: str, shard: int) -> str:
        """The id with the last two digits of a slot of `shard`. An id that has no slot is returned as it is."""
        found = _WITH_SLOT.fullmatch(request_id)
        if found is None:
            return request_id
        slot = int(found["slot"], 16)
        slot += shard - slot % self.shards
        return f"{found['rest']}{slot if slot < SLOTS else slot - self.shards:02x}"

    def _home_of(self, tenant: str) -> int:
        return self._ranked(tenant)[0]

    def _ranked(self, text: str) -> list[int]:
        """All shards in an order that follows from the text. A new shard changes only the orders where it is first."""
        return sorted(range(self.shards), key=lambda shard: _hash(f"{shard}:{text}"), reverse=True)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
