"""What is shown of models that are not in memory, and when a failed load is tried again."""

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.directory import ModelState, ModelStatus
from llmactors.backends.residency import Residency, ResidencyPhase
from llmactors.model_pool.states import load_estimate_s, retry_at, shown_status

KNOWN = ModelStatus(ModelState.READY, Capabilities(1, 512, Takeover.EXACT))
NOW = 100.0


def residency(phase: ResidencyPhase = ResidencyPhase.UNLOADED, *, since: float = 0.0) -> Residency:
    found = Residency("m")
    found.phase, found.since = phase, since
    return found


def test_unloaded_model_shows_how_long_it_would_load() -> None:
    assert shown_status(KNOWN, residency(), 8.0, NOW) == ModelStatus(
        ModelState.UNLOADED, KNOWN.capabilities, "", ready_in_s=8.0
    )


def test_loading_model_shows_the_time_left() -> None:
    shown = shown_status(KNOWN, residency(ResidencyPhase.LOADING, since=97.0), 8.0, NOW)
    assert (shown.state, shown.ready_in_s, shown.detail) == (ModelState.LOADING, 5.0, "about 5 s left")
    late = shown_status(KNOWN, residency(ResidencyPhase.LOADING, since=50.0), 8.0, NOW)
    assert late.ready_in_s == 0.0


def test_download_is_shown_as_a_load() -> None:
    found = residency()
    found.detail = "downloading 12 of 105 MB"
    shown = shown_status(KNOWN, found, 8.0, NOW)
    assert (shown.state, shown.detail) == (ModelState.LOADING, "downloading 12 of 105 MB")


def test_failed_model_shows_the_reason_and_the_next_try() -> None:
    found = residency()
    found.failures, found.error, found.failed_at = 2, "out of memory", NOW - 0.5
    shown = shown_status(KNOWN, found, 8.0, NOW)
    assert shown.state is ModelState.FAILED
    assert shown.detail == "out of memory (load 2; the next one at the earliest in 2 s)"
    assert shown.ready_in_s == 9.5


def test_model_in_memory_keeps_its_state() -> None:
    assert shown_status(KNOWN, residency(ResidencyPhase.LOADED), 8.0, NOW) == KNOWN


@pytest.mark.parametrize(("failures", "wait_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (500, 60)])
def test_waits_between_failed_loads_grow(failures: int, wait_s: float) -> None:
    found = residency()
    found.failures, found.failed_at = failures, NOW
    assert retry_at(found) == NOW + wait_s


def test_estimate_comes_from_the_last_load_or_the_size() -> None:
    found = residency()
    assert load_estimate_s(found, 10**9, 500e6) == 2.0
    found.load_s = 7.0
    assert load_estimate_s(found, 10**9, 500e6) == 7.0
