"""The order of a takeover: all at once, and one by one where gateways end early."""

import pytest

from llmactors.keeper.takeover import MOST_KILLS, SETTLE_S, TakeoverOrder

CIDS = [*range(1, 8)]
LOAD_S = 0.01
"""The time that a gateway takes for a part."""


class Takeovers:
    """Gateways that take over one after the other, on a clock of their own."""

    def __init__(self) -> None:
        self.order = TakeoverOrder()
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
            self.now += self.order.settle_s
            if crash_at is not None and crash_at < self.now:
                return self.crash(crash_at, answered=True)
        if crash_at is not None:
            return self.crash(crash_at, answered=True)
        self.order.settled()
        return None

    def crash(self, at: float, *, answered: bool) -> int | None:
        self.now = at
        cut = self.order.ended_early(self.left, at, crashed=True, answered=answered)
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
    cut = [takeovers.one(poison if poison in takeovers.left else None, after_s) for _ in range(5)]
    assert [cid for cid in cut if cid] == [poison]
    assert takeovers.parts() == [takeovers.left]


def test_two_poisons_are_both_found() -> None:
    takeovers = Takeovers()
    cut = [takeovers.one(next((cid for cid in (5, 3) if cid in takeovers.left), None)) for _ in range(8)]
    assert [cid for cid in cut if cid] == [5, 3]


def test_kills_from_outside_cut_nothing() -> None:
    """Unless they come again and again before the same connection, given alone, is taken up."""
    order = TakeoverOrder()
    for _ in range(9):
        order.begin(CIDS)
        while order.next_part(0.0) is not None:
            pass
        assert order.ended_early(CIDS, 0.0, crashed=False, answered=True) is None
    for cut in (*[None] * (MOST_KILLS - 1), 1):
        order.begin(CIDS)
        while order.next_part(0.0) != [1]:
            pass
        assert order.ended_early(CIDS, 0.0, crashed=False, answered=False) == cut


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
    assert parts[-1] == ([5], SETTLE_S)
