"""Which promises of the ledger's contract hold on each shard by itself, and not over requests of several shards."""

import pytest

_ORDER = "the order among requests holds on each shard; over all shards it is that of `sharded/rotation.py`"
_COUNTERS = "requests that are charged together live at the home of their tenant"
_BOUND = "each shard has its own part of the bound"
_SUSPECTS = "requests in quarantine run together with those of their own shard"
_CONVERSATION = "the requests of a conversation live on one shard"

_PER_SHARD = {
    "test_forgotten_request_keeps_its_record": _BOUND,
    "test_sums_stay_exact_without_their_records": _BOUND,
    "test_answers_kept_long_do_not_evict_new_ones": _BOUND,
    "test_answers_that_are_read_are_evicted_last": _BOUND,
    "test_answers_that_are_read_are_evicted_at_the_bound": _BOUND,
    "test_too_many_sums_are_added_up_as_others": _BOUND,
    "test_shares_add_up_what_each_tenant_has": _ORDER,
    "test_requeue_into_a_full_queue_changes_nothing": _BOUND,
    "test_purge_removes_one_dead_letter_or_all": _SUSPECTS,
    "test_new_dead_letter_is_taken_once": _SUSPECTS,
    "test_request_over_a_limit_is_refused_and_not_charged": _COUNTERS,
    "test_request_is_admitted_after_retry_after": _COUNTERS,
    "test_rate_counts_by_caller": _COUNTERS,
    "test_refusal_by_a_full_queue_is_not_charged": _BOUND,
    "test_candidates_are_admitted_all_or_none": _COUNTERS,
    "test_candidates_must_fit_into_the_queue_together": _COUNTERS,
    "test_budget_reserves_the_most_and_settles_the_cost": _COUNTERS,
    "test_budget_begins_anew_with_its_month": _COUNTERS,
    "test_daily_limit_resets_at_midnight": _COUNTERS,
    "test_refund_accounts_for_earlier_refunds": _COUNTERS,
    "test_crash_of_a_batch_convicts_nobody_and_splits_it": _SUSPECTS,
    "test_suspects_share_a_worker_with_nobody_else": _SUSPECTS,
    "test_quarantined_request_gets_a_busy_worker_once_empty": _SUSPECTS,
    "test_reservation_ends_with_the_request": _SUSPECTS,
    "test_newest_dead_letters_are_kept_up_to_a_bound": _BOUND,
    "test_leave_requeues_all_requests_of_the_worker": _ORDER,
    "test_tenant_evicts_its_own_answers_first": _BOUND,
    "test_request_that_gave_way_goes_on_where_it_was": _ORDER,
    "test_best_offer_that_may_give_way_does": _ORDER,
    "test_request_gives_way_only_a_few_times": _ORDER,
    "test_preemptions_of_a_model_have_a_rate": _ORDER,
    "test_next_turn_waits_for_the_worker_of_the_last": _CONVERSATION,
    "test_preference_ends_after_its_time": _CONVERSATION,
    "test_waiting_worker_looks_again_when_it_ends": _CONVERSATION,
    "test_as_many_are_passed_over_as_have_room": _CONVERSATION,
    "test_much_busier_worker_is_not_waited_for": _CONVERSATION,
    "test_passed_over_request_keeps_its_place": _CONVERSATION,
    "test_passing_over_gives_no_tenant_an_advantage": _CONVERSATION,
    "test_place_counts_the_requests_that_are_claimed_first": _ORDER,
    "test_place_falls_as_requests_before_it_are_claimed": _ORDER,
    "test_request_that_returns_has_the_first_place": _ORDER,
    "test_wait_of_a_place_follows_the_rate_of_the_queue": _ORDER,
    "test_expected_wait_follows_from_queue_length_and_rate": _ORDER,
    "test_expected_wait_grows_while_the_queue_stands_still": _ORDER,
    "test_claim_returns_at_most_the_free_slots": _ORDER,
    "test_one_tenant_does_not_starve_another": _ORDER,
    "test_more_urgent_class_is_claimed_first": _ORDER,
    "test_starved_class_gets_one_turn_at_a_time": _ORDER,
    "test_released_request_goes_before_later_requests": _ORDER,
    "test_tenant_of_twice_the_weight_gets_twice_the_tokens": _ORDER,
    "test_queue_is_bounded_in_requests": _BOUND,
    "test_queue_is_bounded_in_bytes": _BOUND,
}
_ONE_CLAIM = {
    "test_crash_of_a_batch_convicts_nobody_and_splits_it",
    "test_suspects_share_a_worker_with_nobody_else",
}
"""Requests in quarantine run together only if one claim brings all of them, and a claim asks each shard for a part."""


def skip_promises_of_one_shard(test: str, *, together: bool) -> None:
    """Skips a test of the suite whose requests would have to be on one shard. `together`: they are."""
    reason = _PER_SHARD.get(test)
    if reason is not None and (not together or test in _ONE_CLAIM):
        pytest.skip(reason)
