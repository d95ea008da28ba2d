"""Metrics have the agreed names, right values, and labels with few values."""

import math

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from llmactors import __version__
from llmactors.telemetry import Metrics

NAMES_AND_LABELS = """
llm_gateway_request_count_total{status} llm_gateway_inflight_requests llm_gateway_batch_size_bucket{le}
llm_gateway_request_latency_seconds_bucket{le} llm_gateway_request_latency_p50_seconds
llm_gateway_request_latency_p95_seconds llm_gateway_request_latency_p99_seconds llm_gateway_tokens_generated_total
llm_gateway_errors_total{code} llm_worker_batch_size_bucket{le} llm_worker_tokens_generated_total
llm_worker_errors_total llmactors_preemptions_total llmactors_model_loads_total{outcome}
llmactors_actor_restarts_total{actor} llmactors_ready llmactors_draining
llmactors_actor_starts_total{actor} llmactors_mailbox_depth{actor} llmactors_mailbox_peak{actor}
llmactors_dead_letters_total{reason} llmactors_event_loop_stall_seconds_bucket{le}
llmactors_event_loop_stall_seconds_max llmactors_ledger_requests{state} llmactors_ledger_requeued_total
llmactors_ledger_given_up_total llmactors_ledger_fenced_total llmactors_tasks llmactors_build_info{version}
llmactors_upstream_up{upstream} llmactors_upstream_tries_total{outcome,upstream}
llmactors_upstream_hedges_total{outcome,upstream} llmactors_upstream_failovers_total{reason,upstream}
llmactors_redis_up{link} llmactors_redis_connects_total{link} llmactors_redis_commands_total{link}
llmactors_redis_commands_in_flight{link} llmactors_redis_queued_bytes{link}
llmactors_redis_commands_refused_total{link} llmactors_redis_unknown_outcomes_total{link}
llmactors_redis_available llmactors_redis_outages_total{reason} llmactors_redis_outage_seconds_total
llmactors_redis_error_replies_total{kind} llmactors_redis_losses_total{outcome} llmactors_redis_wrong_settings{setting}
llmactors_redis_round_trip_seconds_bucket{le,link}
llmactors_request_seconds_bucket{le,model} llmactors_ttft_seconds_bucket{le,model}
llmactors_inter_token_seconds_bucket{le,model} llmactors_batch_wait_seconds_bucket{class,le,model}
llmactors_prompt_tokens_total{model} llmactors_cached_prompt_tokens_total{model}
llmactors_completion_tokens_total{model} llmactors_takeovers_total{cause,model} llmactors_slots{model}
llmactors_slots_busy{model} llmactors_model_state{model,state} llmactors_model_accepted{model}
llmactors_upstreams{model,state} llmactors_queue_requests{class,model} llmactors_queue_oldest_seconds{class,model}
llmactors_ledger_workers llmactors_ledger_quarantined llmactors_ledger_dead_letters
process_cpu_seconds_total process_resident_memory_bytes process_virtual_memory_bytes process_open_fds process_max_fds
process_start_time_seconds
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def scrape(metrics: Metrics) -> dict[str, float]:
    """The value of each series in the text."""
    body, _ = metrics.render()
    return {
        name: float(value)
        for name, _, value in (
            line.rpartition(" ") for line in body.decode().splitlines() if line and not line.startswith("#")
        )
    }


def link_of(metrics: Metrics, *, connects: int) -> None:
    metrics.redis_link(
        "ledger", up=True, in_flight=2, queued_bytes=3, connects=connects, commands=5, unknown=1, overflows=0
    )


def show_ledger(metrics: Metrics, *, queued: int = 1, requeued_total: int = 4) -> None:
    metrics.ledger.show(
        queued=queued,
        running=2,
        ended=3,
        workers=1,
        quarantined=0,
        dead_letters=6,
        requeued_total=requeued_total,
        fenced_total=5,
    )


def exercise(metrics: Metrics) -> None:
    metrics.request_started()
    metrics.request_finished(200, 0.2, model="m")
    metrics.tokens_generated(5)
    metrics.node_state(ready=True, draining=False)
    metrics.redis_round_trip("ledger", 0.001)
    metrics.batch(3)
    metrics.step(3, 3)
    metrics.worker_error()
    metrics.model_load("loaded")
    metrics.actor_started("batcher")
    metrics.actor_restarted("batcher")
    metrics.dead_letter("expired")
    metrics.on_scrape(lambda: metrics.mailbox("batcher", depth=1, peak=2))
    metrics.event_loop_late(0.01)
    show_ledger(metrics)
    metrics.ledger.show_queue(["m"], [("m", 0, 1, 2.5)])
    work = metrics.models.work("m")
    work.claimed(0, 0.2)
    work.took_over("disconnected")
    metrics.models.show_state("m", "ready", ["ready", "down"], slots=8, busy=2)
    metrics.models.show_accepted("m", accepted=True)
    metrics.models.show_upstreams("m", {"up": 1, "open": 0, "trial": 0})
    link_of(metrics, connects=1)
    metrics.redis_health(
        available=False,
        outages={"OOM": 1},
        outage_s=2.5,
        error_replies={"OOM": 3},
        wrong_settings=["appendonly"],
        losses={"restored": 1},
    )
    metrics.upstream("http://h/v1", up=True, tries={"answered": 2}, hedges={"won": 1}, failovers={"error": 1})


def test_metric_names_and_labels_are_exactly_the_agreed_ones() -> None:
    metrics = Metrics()
    exercise(metrics)
    body, content_type = metrics.render()
    found = set()
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if not sample.name.endswith(("_sum", "_count")):
                found.add(sample.name + (f"{{{','.join(sorted(sample.labels))}}}" if sample.labels else ""))
    assert found == set(NAMES_AND_LABELS.split())
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_created_series_are_left_out_of_this_registry_only() -> None:
    metrics = Metrics()
    exercise(metrics)
    assert b"_created" not in metrics.render()[0]
    other = CollectorRegistry()
    Counter("theirs", "Somebody else's.", registry=other)
    assert b"theirs_created" in prometheus_client.generate_latest(other)


def test_two_metrics_share_no_registry() -> None:
    before = {metric.name for metric in prometheus_client.REGISTRY.collect()}
    one, two = Metrics(), Metrics()
    one.tokens_generated(7)
    assert scrape(one)["llm_gateway_tokens_generated_total"] == 7
    assert scrape(two)["llm_gateway_tokens_generated_total"] == 0
    assert {metric.name for metric in prometheus_client.REGISTRY.collect()} == before


def test_owner_of_a_registry_can_scrape_the_metrics() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.on_scrape(lambda: metrics.mailbox("a", depth=3, peak=4))
    metrics.request_started()
    metrics.request_finished(200, 0.5)
    assert b'llmactors_mailbox_depth{actor="a"} 3.0' in prometheus_client.generate_latest(registry)
    assert registry.get_sample_value("llm_gateway_request_latency_p99_seconds") == 0.5


def test_requests_are_counted_by_status_and_code() -> None:
    metrics = Metrics()
    for status, code in [(200, None), (200, "POISONED"), (429, "RATE_LIMITED"), (500, "anything a user wrote")]:
        metrics.request_started()
        metrics.request_finished(status, 1.0, code)
    metrics.request_started()
    series = scrape(metrics)
    assert series['llm_gateway_request_count_total{status="200"}'] == 2
    assert series['llm_gateway_request_count_total{status="429"}'] == 1
    assert series["llm_gateway_inflight_requests"] == 1
    assert series['llm_gateway_errors_total{code="POISONED"}'] == 1
    assert series['llm_gateway_errors_total{code="INTERNAL"}'] == 1
    assert series['llm_gateway_errors_total{code="OVERLOADED"}'] == 0
    assert not any("user" in name for name in series)


def test_latency_percentiles_forget_old_requests() -> None:
    clock = Clock()
    metrics = Metrics(clock=clock)
    assert math.isnan(scrape(metrics)["llm_gateway_request_latency_p50_seconds"])
    for number in range(1, 101):
        metrics.request_finished(200, number / 100)
    series = scrape(metrics)
    assert [series[f"llm_gateway_request_latency_{name}_seconds"] for name in ("p50", "p95", "p99")] == [
        0.5,
        0.95,
        0.99,
    ]
    clock.now += 301
    assert math.isnan(scrape(metrics)["llm_gateway_request_latency_p50_seconds"])
    assert scrape(metrics)["llm_gateway_request_latency_seconds_count"] == 100


def test_ledger_is_shown_by_one_node_only() -> None:
    metrics = Metrics()

    def shown() -> list[str]:
        return [name for name in scrape(metrics) if name.startswith(("llmactors_ledger_r", "llmactors_queue"))]

    assert shown() == []
    show_ledger(metrics)
    metrics.ledger.show_queue(["m"], [("m", 0, 7, 2.5)])
    series = scrape(metrics)
    assert series['llmactors_queue_requests{class="0",model="m"}'] == 7
    assert series['llmactors_queue_oldest_seconds{class="0",model="m"}'] == 2.5
    assert series['llmactors_queue_requests{class="2",model="m"}'] == 0
    assert series["llmactors_ledger_dead_letters"] == 6
    metrics.ledger.hide()
    assert shown() == []


def test_batches_steps_and_waits_are_counted() -> None:
    metrics = Metrics()
    metrics.batch(3)
    for waited_s in (0.1, 0.2, 0.3):
        metrics.models.work("m").claimed(1, waited_s)
    metrics.step(8, 8)
    metrics.step(8, 6)
    series = scrape(metrics)
    assert series["llm_gateway_batch_size_sum"] == 3
    assert series['llmactors_batch_wait_seconds_count{class="1",model="m"}'] == 3
    assert series["llm_worker_batch_size_sum"] == 16
    assert series["llm_worker_tokens_generated_total"] == 14


def test_mailbox_of_a_removed_actor_is_not_shown() -> None:
    metrics = Metrics()
    remove = metrics.on_scrape(lambda: metrics.mailbox("short-lived", depth=3, peak=9))
    assert scrape(metrics)['llmactors_mailbox_peak{actor="short-lived"}'] == 9
    remove()
    remove()
    assert not any("short-lived" in name for name in scrape(metrics))


def test_failed_callback_does_not_hide_other_metrics() -> None:
    metrics = Metrics()

    def fails() -> None:
        raise RuntimeError

    metrics.on_scrape(fails)
    metrics.on_scrape(lambda: metrics.mailbox("b", depth=1, peak=1))
    assert scrape(metrics)['llmactors_mailbox_depth{actor="b"}'] == 1


def test_counter_that_follows_a_total_never_falls() -> None:
    metrics = Metrics()
    seen = []
    for total in (0, 3, 3, 5, 2, 4):
        show_ledger(metrics, queued=total, requeued_total=total)
        seen.append(scrape(metrics)["llmactors_ledger_requeued_total"])
    assert seen == [0, 3, 3, 5, 7, 9]
    assert scrape(metrics)['llmactors_ledger_requests{state="queued"}'] == 4


def test_worst_stall_is_forgotten_but_all_are_counted() -> None:
    clock = Clock()
    metrics = Metrics(clock=clock)
    metrics.event_loop_late(0.7)
    metrics.event_loop_late(0.001)
    assert scrape(metrics)["llmactors_event_loop_stall_seconds_max"] == 0.7
    clock.now += 121
    series = scrape(metrics)
    assert series["llmactors_event_loop_stall_seconds_max"] == 0
    assert series["llmactors_event_loop_stall_seconds_count"] == 2


def test_build_info_has_the_version() -> None:
    assert scrape(Metrics())[f'llmactors_build_info{{version="{__version__}"}}'] == 1


def test_registry_takes_only_one_metrics() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_redis_link_statistics_follow_the_link() -> None:
    metrics = Metrics()
    for connects in (1, 3):
        link_of(metrics, connects=connects)
    series = scrape(metrics)
    assert series['llmactors_redis_up{link="ledger"}'] == 1
    assert series['llmactors_redis_connects_total{link="ledger"}'] == 3
    assert series['llmactors_redis_commands_total{link="ledger"}'] == 5
