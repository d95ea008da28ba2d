"""The metrics of models have one series for each known model, and count each token once."""

import random
import re

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from llmactors.telemetry import Metrics
from llmactors.telemetry.histograms import Histograms
from llmactors.telemetry.instruments import GAP_SECONDS, LONG_SECONDS
from llmactors.telemetry.model_metrics import MODELS_MAX


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None
    return found


def test_series_are_those_of_prometheus_client() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    series = Histograms("h_seconds", "Text.", ["model"], GAP_SECONDS)
    ours.register(series)
    library = Histogram("h_seconds", "Text.", ["model"], buckets=GAP_SECONDS, registry=theirs)
    rng = random.Random(7)
    for _ in range(300):
        seconds, model = rng.choice([*GAP_SECONDS, rng.expovariate(3), 1000.0]), rng.choice("ab")
        series.of(model).observe(seconds)
        library.labels(model).observe(seconds)
    text = generate_latest(theirs).decode()
    expected = [line for line in text.splitlines() if "_created" not in line]
    assert sorted(generate_latest(ours).decode().splitlines()) == sorted(expected)


def test_each_token_after_the_first_write_counts_once() -> None:
    metrics = Metrics()
    times = metrics.models.answers("m").stream(begun=10.0)
    assert not times.have_begun
    times.wrote(2, 10.5)
    times.wrote(1, 10.53)
    times.wrote(3, 10.83)
    assert value(metrics, "llmactors_ttft_seconds_sum", model="m") == 0.5
    assert value(metrics, "llmactors_ttft_seconds_count", model="m") == 1
    assert value(metrics, "llmactors_inter_token_seconds_count", model="m") == 4
    assert value(metrics, "llmactors_inter_token_seconds_sum", model="m") == pytest.approx(0.33)
    assert value(metrics, "llmactors_inter_token_seconds_bucket", model="m", le="0.1") == 1


def test_stream_that_is_followed_again_has_no_first_token() -> None:
    metrics = Metrics()
    times = metrics.models.answers("m").stream(begun=None)
    times.wrote(40, 99.0)
    times.wrote(1, 99.1)
    assert value(metrics, "llmactors_ttft_seconds_count", model="m") == 0
    assert value(metrics, "llmactors_inter_token_seconds_count", model="m") == 1


def test_work_for_a_model_is_counted_by_its_name() -> None:
    metrics = Metrics()
    work = metrics.models.work("m")
    work.made(8)
    work.made(6)
    work.read_prompt(100, cached=60)
    work.claimed(0, 700.0)
    work.took_over("disconnected")
    assert value(metrics, "llmactors_completion_tokens_total", model="m") == 14
    assert value(metrics, "llmactors_prompt_tokens_total", model="m") == 100
    assert value(metrics, "llmactors_cached_prompt_tokens_total", model="m") == 60
    assert value(metrics, "llmactors_takeovers_total", model="m", cause="disconnected") == 1
    bucket = {"model": "m", "class": "0", "le": "1200.0"}
    assert value(metrics, "llmactors_batch_wait_seconds_bucket", **bucket) == 1


def test_times_of_half_an_hour_have_a_bucket() -> None:
    assert LONG_SECONDS[-1] == 1800.0


def test_only_so_many_models_have_series_of_their_own() -> None:
    metrics = Metrics()
    for number in range(MODELS_MAX + 50):
        metrics.models.work(f"m{number}").made(1)
        metrics.request_finished(200, 1.0, model=f"m{number}")
    text = metrics.render()[0].decode()
    assert value(metrics, "llmactors_completion_tokens_total", model="other") == 50
    assert len(set(re.findall(r'model="([^"]*)"', text))) == MODELS_MAX + 1
