"""The workers of this process: what each of them holds on which shard. Pure."""

from collections.abc import Sequence

import attrs

from llmactors.ledger.sharded.rotation import Rotation
from llmactors.ledger.sharded.shard import Key
from llmactors.ledger.values import Claim


@attrs.define(eq=False)
class Member:
    """One incarnation of a worker in this process.

    A worker has a lease on each shard. Where one shard ends the lease and others do not, as after a cut of one
    connection, only the requests of that shard are lost, and the worker joins that shard again under another id.
    """

    worker: str
    shards: int
    names: list[str] = attrs.field(init=False)
    """The worker's id on each shard."""
    joined: set[int] = attrs.field(factory=set)
    """The shards that have granted a lease."""
    held: dict[Key, int] = attrs.field(factory=dict)
    """The shard of each claim."""
    suspects: set[Key] = attrs.field(factory=set)
    """The claims in quarantine."""
    reserved_for: tuple[int, str] | None = None
    """A request in quarantine for this worker, which must be empty before: its shard and its id. Else None."""
    late: dict[str, list[tuple[int, Claim]]] = attrs.field(factory=dict)
    """By model, what a shard that was slow to answer has handed to this worker meanwhile, with the shard."""
    over: list[Key] = attrs.field(factory=list)
    """The claims that gave up their slots by a swap that came late. The next beat names them."""
    help_until: dict[tuple[str, int], float] = attrs.field(factory=dict)
    """By model and shard, until when this worker claims there at once, though other workers prefer the shard."""
    open: dict[tuple[str, int], int] = attrs.field(factory=dict)
    """By model and shard, how many slots are open there, at most: to so many requests may be handed out unasked."""
    _rotations: dict[str, Rotation] = attrs.field(factory=dict)
    _asked: set[tuple[str, int]] = attrs.field(factory=set)
    """By model and shard, the claims that are not answered yet. They may outlive the call that made them."""
    _news: dict[str, set[int]] = attrs.field(factory=dict)
    _rejoined: int = 0

    def __attrs_post_init__(self) -> None:
        self.names = [self.worker] * self.shards

    def rotation(self, model: str) -> Rotation:
        """The turns of the shards in the claims for a model."""
        return self._rotations.setdefault(model, Rotation())

    def note_news(self, model: str, shard: int) -> None:
        """Notes that there may be something to claim for a model on a shard."""
        if model in self._news:
            self._news[model].add(shard)

    def begin_claim(self, model: str, shard: int, opens: int, *, takes: bool) -> None:
        """Notes that a shard is asked, and that so many slots may be open there from now on. Where the claim `takes`
        all that the shard has, what the worker hears of from now on may be more.
        """
        news = self._news.setdefault(model, set(range(self.shards)))
        if takes:
            news.discard(shard)
        self.open[model, shard] = opens
        self._asked.add((model, shard))

    def end_claim(self, model: str, shard: int) -> None:
        """Notes that a shard was asked."""
        self._asked.discard((model, shard))

    def look_everywhere(self) -> None:
        """Notes that news may have been missed."""
        self._news.clear()

    def where_to_claim(self, model: str, answering: set[int], *, hears: bool) -> set[int]:
        """The shards that a claim for a model asks next: those with news. `hears`: whether news is listened to. A claim
        asks all shards where none has news, because news can be lost. It asks none that has not answered the claim
        before: that one may still be given all the slots that are free.
        """
        shards = {shard for shard in answering & self.joined if (model, shard) not in self._asked}
        if self.suspects:
            # Only their own shard knows how many requests in quarantine may run together.
            return shards & {self.held[key] for key in self.suspects}
        if self.reserved_for is not None:
            return set() if self.held else shards & {self.reserved_for[0]}
        if not hears:
            return shards
        return shards & self._news.get(model, shards)

    def take(self, claim: Claim, shard: int) -> bool:
        """Notes a claim of this worker. False for a request in quarantine that this worker must not begin, because it
        has others; then the worker takes nothing more until it is empty.
        """
        if claim.quarantined and any(of != shard for of in self.held.values()):
            self.reserved_for = shard, claim.request.id
            return False
        key = claim.request.id, claim.epoch
        self.held[key] = shard
        if claim.quarantined:
            self.suspects.add(key)
        return True

    def keep_late(self, model: str, shard: int, name: str, claims: Sequence[Claim]) -> None:
        """Keeps for the next claim what a shard gave too late to the worker's id `name`. Where the shard has ended that
        lease meanwhile, the claims are over.
        """
        if name == self.names[shard]:
            self.late.setdefault(model, []).extend((shard, claim) for claim in claims)

    def let_go(self, key: Key) -> None:
        """Forgets a claim that is over."""
        shard = self.held.pop(key, None)
        self.suspects.discard(key)
        for place, slots in self.open.items():
            if slots > 0 and place[1] == shard:
                self.open[place] += 1  # the shard opens the slot, if another one is open there

    def lose(self, shard: int) -> list[Key]:
        """Forgets and returns all claims on a shard that has ended the lease, and takes another id for the shard."""
        lost = [key for key, of in self.held.items() if of == shard]
        for key in lost:
            self.let_go(key)
        for late in self.late.values():
            late[:] = [each for each in late if each[0] != shard]
        self.open = {place: slots for place, slots in self.open.items() if place[1] != shard}
        self._rejoined += 1
        self.names[shard] = f"{self.worker}~{self._rejoined}"
        self.joined.discard(shard)
        return lost
