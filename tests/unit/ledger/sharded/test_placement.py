"""Where requests live."""

from collections import Counter

import pytest

from llmactors.http.request_id import derived_request_id, keyed_request_id, new_request_id
from llmactors.ledger.sharded import Placement


def test_ids_spread_over_all_shards() -> None:
    placement = Placement(3)
    counts = Counter(placement.shard_of(new_request_id()) for _ in range(3000))
    assert min(counts[shard] for shard in range(3)) > 800


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 256])
def test_moved_id_lives_where_it_was_moved(shards: int) -> None:
    placement = Placement(shards)
    for each in (new_request_id(), f"req_{'f' * 32}", f"req_{'0' * 32}"):
        for shard in (0, shards // 2, shards - 1):
            moved = placement.moved(each, shard)
            assert placement.shard_of(moved) == shard
            assert (moved[:-2], len(moved)) == (each[:-2], len(each))
            assert placement.moved(moved, shard) == moved


def test_charged_requests_live_at_their_tenants_home() -> None:
    placement = Placement(5)
    for tenant in map(str, range(20)):
        ids = placement.place([new_request_id() for _ in range(4)], tenant, at_home=True)
        assert {placement.shard_of(each) for each in ids} == {placement.home_of(tenant)}


def test_idempotency_key_names_the_same_id_everywhere() -> None:
    first, second = Placement(3), Placement(3, lambda shard: shard != 0)
    for number in range(20):
        ids = [keyed_request_id(f"tenant {number}", "key")]
        placed = first.place(ids, f"tenant {number}", at_home=True)
        assert placed == second.place(ids, f"tenant {number}", at_home=True)


def test_free_request_avoids_a_shard_that_is_away() -> None:
    placement = Placement(3, lambda shard: shard != 1)
    found = {placement.shard_of(*placement.place([new_request_id()], "t", at_home=False)) for _ in range(100)}
    assert found == {0, 2}


def test_turns_of_a_conversation_live_on_one_shard() -> None:
    placement = Placement(3)
    turns = [placement.place([new_request_id()], "t", at_home=False, conversation="c") for _ in range(20)]
    assert len({placement.shard_of(turn) for [turn] in turns}) == 1


def test_id_of_a_place_is_found_whatever_shard_was_chosen() -> None:
    ids = [derived_request_id("connection", 0), derived_request_id("connection", 1)]
    for away in range(3):
        placed = Placement(3, lambda shard, away=away: shard != away).place(ids, "t", at_home=False)  # type: ignore[misc]
        assert placed in Placement(3).others(ids)


def test_few_tenants_move_to_a_new_shard() -> None:
    before, after = Placement(3), Placement(4)
    tenants = [f"tenant {number}" for number in range(1000)]
    moved = [each for each in tenants if before.home_of(each) != after.home_of(each)]
    assert 150 < len(moved) < 350
    assert {after.home_of(each) for each in moved} == {3}
