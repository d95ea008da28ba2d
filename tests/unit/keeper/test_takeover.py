"""The order of a takeover: all at once, and one by one where gateways end early."""

from llmactors.keeper.takeover import SETTLE_S, TakeoverOrder

CIDS = range(1, 8)


def take_over(order: TakeoverOrder, *, crashes_at: int | None = None, cids: list[int]) -> int | None:
    """One gateway takes over, and crashes when it has got a connection. Returns the connection that is cut then."""
    order.begin(cids)
    while (part := order.next_part()) is not None:
        if crashes_at in part:
            return order.ended_early(cids, crashed=True, answered=False)
    order.settled()
    return None


def test_all_are_given_at_once() -> None:
    order = TakeoverOrder()
    order.begin(CIDS)
    assert [order.next_part(), order.next_part()] == [[*CIDS], None]


def test_second_takeover_gives_one_by_one() -> None:
    order = TakeoverOrder()
    assert take_over(order, crashes_at=4, cids=[*CIDS]) is None
    order.begin([*CIDS, 99])
    parts = [order.next_part() for _ in range(9)]
    assert parts == [[99], *([cid] for cid in CIDS), None]


def test_poison_is_found_by_the_second_crash() -> None:
    for poison in CIDS:
        order, left = TakeoverOrder(), [*CIDS]
        assert take_over(order, crashes_at=poison, cids=left) is None
        assert take_over(order, crashes_at=poison, cids=left) == poison
        left.remove(poison)
        assert take_over(order, crashes_at=poison, cids=left) is None


def test_two_poisons_are_both_found() -> None:
    order, left = TakeoverOrder(), [*CIDS]
    cut = []
    for _ in range(6):
        found = take_over(order, crashes_at=next((cid for cid in (5, 3) if cid in left), None), cids=left)
        cut += [found] if found else []
        left = [cid for cid in left if cid != found]
    assert cut == [5, 3]


def test_kill_from_outside_cuts_nothing_the_first_time() -> None:
    order = TakeoverOrder()
    order.begin(CIDS)
    order.next_part()
    order.ended_early(CIDS, crashed=False, answered=False)
    for cut in (None, 1):
        order.begin(CIDS)
        while order.next_part() != [1]:
            pass
        assert order.ended_early(CIDS, crashed=False, answered=False) == cut


def test_taken_up_connections_come_first() -> None:
    order = TakeoverOrder()
    take_over(order, crashes_at=4, cids=[*CIDS])
    order.begin(CIDS)
    while order.next_part() != [4]:
        pass
    order.ended_early(CIDS, crashed=False, answered=False)
    order.begin(CIDS)
    assert [order.next_part() for _ in range(6)] == [[1, 2, 3], [5], [6], [7], [4], None]


def test_late_crash_makes_takeovers_slower() -> None:
    order = TakeoverOrder()
    for settle_s in (0.0, 0.0, SETTLE_S):
        assert order.settle_s == settle_s
        order.begin(CIDS)
        while order.next_part() is not None:
            pass
        assert order.ended_early(CIDS, crashed=True, answered=True) is None
