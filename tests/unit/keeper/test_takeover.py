"""The order of a takeover: all at once, and one by one where gateways end early."""

import random
from collections.abc import Sequence

import pytest

from llmactors.keeper.takeover import MOST_KILLS, SETTLE_S, STABLE_S, Death, TakeoverOrder

CIDS = [*range(1, 8)]
LOAD_S = 0.01
"""The time that a gateway takes for a part."""


class Takeovers:
    """Gateways that take over one after the other, on a clock of their own. All that end early have this `death`."""

    def __init__(self, death: Death = Death.CRASHED) -> None:
        self.order = TakeoverOrder()
        self.death = death
        self.left = [*CIDS]
        self.now = 100.0

    def one(self, poison: int | None, after_s: float = 0.0) -> int | None:
        """One gateway takes over, and crashes so long after it got a connection. Returns the connection that is cut."""
        self.order.begin(self.left)
        crash_at = None
        while (part := self.order.next_part(self.now)) is not None:
            if poison in part:
                crash_at = self.now + after_s
            self.now += LOAD_S
            if crash_at is not None and crash_at < self.now:
                return self.crash(crash_at, answered=False)
            self.order.taken_up(self.now)
            self.now += self.order.settle_s
            if crash_at is not None and crash_at < self.now:
                return self.crash(crash_at, answered=True)
        if crash_at is not None:
            return self.crash(crash_at, answered=True)
        self.order.settled()
        return None

    def crash(self, at: float, *, answered: bool) -> int | None:
        self.now = at
        cut = self.order.ended_early(self.left, at, self.death, answered=answered)
        self.left = [cid for cid in self.left if cid != cut]
        return cut

    def parts(self) -> list[list[int]]:
        self.order.begin(self.left)
        found = []
        while (part := self.order.next_part(self.now)) is not None:
            found.append(part)
        return found


def test_all_are_given_at_once() -> None:
    assert Takeovers().parts() == [CIDS]


def test_second_takeover_gives_one_by_one() -> None:
    takeovers = Takeovers()
    assert takeovers.one(poison=4) is None
    takeovers.left.append(99)
    assert takeovers.parts() == [[99], *([cid] for cid in CIDS)]


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("poison", CIDS)
def test_poison_is_cut_and_nothing_else(poison: int, after_s: float) -> None:
    takeovers = Takeovers()
    cut = [takeovers.one(poison if poison in takeovers.left else None, after_s) for _ in range(7)]
    assert [cid for cid in cut if cid] == [poison]
    assert takeovers.parts() == [takeovers.left]


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("poison", CIDS)
def test_connection_that_takes_all_memory_is_cut(poison: int, after_s: float) -> None:
    takeovers = Takeovers(Death.STARVED)
    takeovers.left = [*CIDS, *range(60, 100)]
    cut = [takeovers.one(poison if poison in takeovers.left else None, after_s) for _ in range(9)]
    assert [cid for cid in cut if cid] == [poison]
    assert takeovers.parts() == [takeovers.left]


def test_two_poisons_are_both_found() -> None:
    takeovers = Takeovers()
    cut = [takeovers.one(next((cid for cid in (5, 3) if cid in takeovers.left), None)) for _ in range(12)]
    assert [cid for cid in cut if cid] == [5, 3]


class Kills:
    """Gateways that something kills, on a clock of their own.

    A gateway takes `part_s` for each connection, and some kill it by SIGKILL while they are taken up.
    """

    def __init__(self, part_s: float = LOAD_S, poisons: Sequence[int] = ()) -> None:
        self.order = TakeoverOrder()
        self.left = [*CIDS]
        self.part_s = part_s
        self.poisons = poisons
        self.cut: list[int] = []

    def one(self, after_s: float) -> bool:
        """A gateway takes over, and somebody kills it after so long. Returns whether it served for a while."""
        now = 0.0
        self.order.begin(self.left)
        while (part := self.order.next_part(now)) is not None:
            for poison in self.poisons:
                if poison in part and poison in self.left:
                    after_s = min(after_s, now + self.part_s / 2)
            if now + self.part_s > after_s:
                return self._killed(after_s, answered=False)
            now += self.part_s
            self.order.taken_up(now)
            now += self.order.settle_s
            if now > after_s:
                return self._killed(after_s, answered=True)
        if after_s - now < STABLE_S:
            return self._killed(after_s, answered=True)
        self.order.settled()
        return True

    def _killed(self, now: float, *, answered: bool) -> bool:
        found = self.order.ended_early(self.left, now, Death.KILLED, answered=answered)
        if found is not None:
            self.cut.append(found)
            self.left.remove(found)
        return False


@pytest.mark.parametrize("part_s", [0.001, 0.03, 0.3])
@pytest.mark.parametrize("kills_per_s", [0.5, 2.0, 10.0, 100.0])
def test_kills_from_outside_cut_nothing(part_s: float, kills_per_s: float) -> None:
    """However often they come, and however slow the machine is."""
    rng = random.Random(1)
    kills = Kills(part_s)
    for _ in range(2000):
        kills.one(rng.expovariate(kills_per_s))
    assert kills.cut == []


def test_kills_at_the_same_time_cut_nothing() -> None:
    """A clock kills each gateway so long after its start."""
    for after_ms in range(0, 2000, 7):
        kills = Kills(part_s=0.03)
        for _ in range(20):
            kills.one(after_ms / 1000)
        assert kills.cut == [], after_ms


@pytest.mark.parametrize("poisons", [(4,), (1, 7), (2, 3, 6)])
def test_connections_by_which_gateways_are_killed_are_cut(poisons: Sequence[int]) -> None:
    kills = Kills(poisons=poisons)
    lives = 1
    while not kills.one(1000.0):
        lives += 1
        assert lives <= 2 + MOST_KILLS * len(poisons)
    assert sorted(kills.cut) == [*poisons]


@pytest.mark.parametrize("acquits", ["taken up", "a kill before", None])
def test_kills_count_as_long_as_they_meet_one_moment(acquits: str | None) -> None:
    order = TakeoverOrder()
    order.begin(CIDS)
    order.next_part(0.0)
    order.ended_early(CIDS, 0.0, Death.KILLED, answered=False)
    cut = []
    for turn in range(3 * MOST_KILLS):
        order.begin(CIDS)
        first = order.next_part(0.0)
        if acquits == "a kill before" and turn % (MOST_KILLS - 1) == 0:
            assert order.ended_early(CIDS, 0.0, Death.KILLED, answered=True) is None
            continue
        for _ in CIDS if first != [1] else ():
            order.taken_up(0.0)
            if order.next_part(0.0) == [1]:
                break
        if acquits == "taken up" and turn % (MOST_KILLS - 1) == 0:
            order.taken_up(0.0)
            order.next_part(0.0)
        cut.append(order.ended_early(CIDS, 0.0, Death.KILLED, answered=False))
    assert (set(cut) == {None}) is (acquits is not None)


@pytest.mark.parametrize("death", [Death.CRASHED, Death.STARVED])
def test_crashes_for_other_reasons_cut_nothing(death: Death) -> None:
    """At random moments, whatever connections a gateway has."""
    rng = random.Random(1)
    order = TakeoverOrder()
    for _ in range(4000):
        crash_at, now, answered = rng.expovariate(1.0), 0.0, True
        order.begin(CIDS)
        while now <= crash_at and order.next_part(now) is not None:
            now += LOAD_S
            answered = now <= crash_at
            if answered:
                order.taken_up(now)
                now += order.settle_s
        if now + STABLE_S <= crash_at:
            order.settled()
        else:
            assert order.ended_early(CIDS, crash_at, death, answered=answered) is None


def test_suspects_come_last_and_slowly() -> None:
    takeovers = Takeovers()
    takeovers.one(poison=4)
    takeovers.one(poison=4, after_s=0.015)
    takeovers.order.begin(CIDS)
    assert takeovers.order.settle_s == 0.0
    parts = []
    while (part := takeovers.order.next_part(0.0)) is not None:
        parts.append((part, takeovers.order.settle_s))
    assert parts[0][0] == []
    assert parts[2] == ([7], STABLE_S)
    assert parts[-1] == ([5], SETTLE_S)
    takeovers.one(poison=5)
    takeovers.order.begin(CIDS)
    takeovers.order.next_part(0.0)
    assert takeovers.order.settle_s == 2 * STABLE_S
