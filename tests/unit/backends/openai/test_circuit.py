"""When an upstream gets requests."""

import random

from hypothesis import given
from hypothesis import strategies as st

from llmactors.actors.backoff import Backoff
from llmactors.backends.openai.routing.circuit import Circuit, CircuitState

RNG = random.Random(1)


def make() -> Circuit:
    return Circuit(failures_to_open=2, backoff=Backoff(first_s=1.0, factor=2.0, cap_s=4.0, jitter=0.0))


def opened() -> Circuit:
    circuit = make()
    for _ in range(2):
        circuit.take(0.0)
        circuit.fail(0.0, RNG)
    return circuit


def test_failures_in_a_row_open_the_circuit() -> None:
    circuit = make()
    circuit.fail(0.0, RNG)
    circuit.succeed()
    circuit.fail(0.0, RNG)
    assert circuit.admits(0.0)
    circuit.fail(0.0, RNG)
    assert circuit.state is CircuitState.OPEN
    assert (circuit.admits(0.99), circuit.next_at(0.0)) == (False, 1.0)


def test_trial_is_one_request() -> None:
    circuit = opened()
    assert circuit.admits(1.0)
    assert circuit.take(1.0)
    assert not circuit.admits(1.0)


def test_successful_trial_closes_the_circuit() -> None:
    circuit = opened()
    circuit.take(1.0)
    circuit.succeed()
    assert circuit.admits(1.0)
    assert not circuit.take(1.0)


def test_each_failed_trial_opens_the_circuit_for_longer() -> None:
    circuit = opened()
    for now, until in ((1.0, 3.0), (3.0, 7.0), (7.0, 11.0)):
        circuit.take(now)
        circuit.fail(now, RNG)
        assert circuit.next_at(now) == until


def test_undecided_trial_makes_way_for_another() -> None:
    circuit = opened()
    circuit.take(1.0)
    circuit.give_back()
    assert circuit.admits(1.0)
    assert circuit.take(1.0)


def test_failures_of_older_requests_prolong_nothing() -> None:
    circuit = opened()
    circuit.fail(0.9, RNG)
    circuit.open(0.9, RNG)
    assert circuit.next_at(0.9) == 1.0


def test_one_hopeless_failure_opens_the_circuit() -> None:
    circuit = make()
    circuit.open(0.0, RNG)
    assert (circuit.state, circuit.admits(0.9), circuit.admits(1.0)) == (CircuitState.OPEN, False, True)


def test_hold_is_kept_in_every_state() -> None:
    circuit = make()
    circuit.hold(5.0)
    circuit.hold(3.0)
    circuit.succeed()
    assert (circuit.admits(4.9), circuit.admits(5.0), circuit.next_at(0.0)) == (False, True, 5.0)


@given(st.lists(st.sampled_from(["take", "ok", "fail", "open", "back", "hold", "later"]), max_size=60))
def test_circuit_always_admits_again(events: list[str]) -> None:
    """After any events, once all trials have ended, there is a time from which requests are admitted."""
    circuit, now, trials = make(), 0.0, 0
    for event in events:
        if event == "take" and circuit.admits(now):
            trials += circuit.take(now)
        elif event == "ok":
            circuit.succeed()
        elif event == "fail":
            circuit.fail(now, RNG)
        elif event == "open":
            circuit.open(now, RNG)
        elif event == "hold":
            circuit.hold(now + 2)
        elif event == "later":
            now += 0.7
        elif event == "back":
            circuit.give_back()
    circuit.give_back()
    assert circuit.admits(max(now, circuit.next_at(now)))
    assert circuit.next_at(now) <= now + 4
