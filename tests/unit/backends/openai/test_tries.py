"""Which upstream a request is sent to next, after which pause, and when the request is given up."""

import math
import random
from collections import Counter

import pytest

from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.routing.tries import Tries, Try
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import BackendFailed, LlmactorsError

RNG = random.Random(1)
TWO_TIERS = "http://a/v1|http://b/v1,priority=1"


class Rig:
    """The tries of one request, and a clock that its pauses move."""

    def __init__(self, text: str, *, ends_at: float = math.inf) -> None:
        self.settings = OpenAISettings.parse(text, name="gpt")
        self.balance = Balance.of(self.settings.upstreams)
        self.tries = Tries(self.settings, self.balance, ends_at)
        self.now = 0.0
        self.last: Try | None = None

    def next(self) -> int:
        """The place of the next try, after all pauses."""
        while not isinstance(chosen := self.tries.choose(self.now, RNG), Try):
            self.now += chosen
        self.last = chosen
        return chosen.place

    def fail(self, kind: FaultKind, *, hold_s: float | None = None) -> None:
        """The last try failed."""
        assert self.last is not None
        fault = UpstreamFault(kind, BackendFailed(kind.label), hold_s=hold_s)
        try:
            self.tries.note_fault(self.last, fault, self.now, RNG)
        finally:
            self.tries.end(self.last)


def test_weights_are_shares_within_a_priority() -> None:
    rig = Rig("http://a/v1,weight=3|http://b/v1|http://c/v1,weight=100,priority=1")
    chosen = Counter(rig.balance.pick([0, 1], RNG) for _ in range(4000))
    assert 2850 < chosen[0] < 3150
    assert list(rig.balance.tiers()) == [[0, 1], [2]]


def test_next_priority_gets_what_the_first_takes_not() -> None:
    rig = Rig("http://a/v1|http://b/v1,priority=7|http://c/v1,priority=3")
    rig.balance.circuits[0].hold(10.0)
    assert rig.next() == 2
    rig.balance.circuits[2].hold(10.0)
    rig.tries = Tries(rig.settings, rig.balance)
    assert rig.next() == 1


def test_equal_upstream_is_asked_at_once() -> None:
    rig = Rig("http://a/v1|http://b/v1|http://c/v1,priority=1")
    first = rig.next()
    rig.fail(FaultKind.BUSY, hold_s=2.0)
    assert (rig.next(), rig.now) == (1 - first, 0.0)


def test_retry_after_is_waited_for_before_the_fallback() -> None:
    rig = Rig(TWO_TIERS)
    assert rig.next() == 0
    rig.fail(FaultKind.BUSY, hold_s=2.0)
    assert (rig.next(), rig.now) == (0, 2.0)
    rig.fail(FaultKind.BUSY, hold_s=2.0)
    assert (rig.next(), rig.now) == (1, 2.0)


@pytest.mark.parametrize("options", ["retry_after_s=1", "retries=0", "wait_s=1"])
def test_fallback_is_asked_where_no_pause_is_allowed(options: str) -> None:
    rig = Rig(f"{TWO_TIERS},{options}")
    rig.next()
    rig.fail(FaultKind.BUSY, hold_s=2.0)
    assert (rig.next(), rig.now) == (1, 0.0)


def test_no_pause_is_longer_than_the_request_has() -> None:
    rig = Rig(TWO_TIERS, ends_at=2.0)
    rig.next()
    rig.fail(FaultKind.BUSY, hold_s=2.0)
    assert (rig.next(), rig.now) == (1, 0.0)


@pytest.mark.parametrize("kind", [FaultKind.BUSY, FaultKind.ERROR, FaultKind.CUT, FaultKind.MALFORMED])
def test_passing_fault_is_tried_again_once(kind: FaultKind) -> None:
    rig = Rig(TWO_TIERS)
    rig.next()
    rig.fail(kind)
    assert rig.next() == 0
    assert 0.05 <= rig.now <= 0.2
    rig.fail(kind)
    assert rig.next() == 1


@pytest.mark.parametrize("kind", [FaultKind.SILENT, FaultKind.UNREACHABLE, FaultKind.KEY, FaultKind.MODEL])
def test_lasting_fault_goes_to_the_fallback_at_once(kind: FaultKind) -> None:
    rig = Rig(TWO_TIERS)
    rig.next()
    rig.fail(kind)
    assert (rig.next(), rig.now) == (1, 0.0)


@pytest.mark.parametrize("kind", [FaultKind.KEY, FaultKind.MODEL])
def test_error_comes_at_once_where_no_pause_helps(kind: FaultKind) -> None:
    rig = Rig(TWO_TIERS)
    rig.next()
    rig.fail(kind)
    rig.next()
    with pytest.raises(BackendFailed, match=kind.label):
        rig.fail(kind)
    assert rig.now == 0.0


def test_open_circuit_is_not_waited_for() -> None:
    rig = Rig(TWO_TIERS)
    for _ in range(2):
        rig.balance.circuits[0].fail(0.0, RNG)
    rig.next()
    rig.fail(FaultKind.ERROR)
    assert (rig.next(), rig.now) == (1, 0.0)


def test_wrong_request_ends_at_once_and_opens_nothing() -> None:
    rig = Rig(TWO_TIERS)
    for _ in range(5):
        rig.tries = Tries(rig.settings, rig.balance)
        rig.next()
        with pytest.raises(BackendFailed, match="request"):
            rig.fail(FaultKind.REQUEST)
    assert rig.balance.circuits[0].state is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("kind", "opens_after"),
    [
        (FaultKind.KEY, 1),
        (FaultKind.MODEL, 1),
        (FaultKind.UNREACHABLE, 3),
        (FaultKind.ERROR, 3),
        (FaultKind.CUT, 3),
        (FaultKind.SILENT, 3),
        (FaultKind.BUSY, None),
        (FaultKind.REFUSED, None),
        (FaultKind.MALFORMED, None),
    ],
)
def test_circuit_opens_by_the_kind_of_the_fault(kind: FaultKind, opens_after: int | None) -> None:
    rig = Rig("http://a/v1,attempts=100")
    circuit = rig.balance.circuits[0]
    for failures in range(1, 6):
        rig.balance.note_fault(0, UpstreamFault(kind, BackendFailed("")), 0.0, RNG)
        is_open = opens_after is not None and failures >= opens_after
        assert circuit.state is (CircuitState.OPEN if is_open else CircuitState.CLOSED)


def test_long_prompt_goes_to_a_longer_context() -> None:
    rig = Rig("http://a/v1,context=8192|http://b/v1,context=4096,priority=1|http://c/v1,context=32768,priority=2")
    rig.next()
    rig.fail(FaultKind.CONTEXT)
    assert rig.next() == 2
    rig.fail(FaultKind.ERROR)
    assert rig.next() == 2, "the others would refuse the prompt again"
    with pytest.raises(BackendFailed, match="context"):
        rig.fail(FaultKind.CONTEXT)


def test_long_prompt_is_refused_where_no_context_is_longer() -> None:
    rig = Rig("http://a/v1|http://b/v1")
    rig.next()
    with pytest.raises(BackendFailed, match="context"):
        rig.fail(FaultKind.CONTEXT)


def test_request_is_given_up_with_the_last_fault() -> None:
    rig = Rig(f"{TWO_TIERS},attempts=3")
    for place in (0, 0, 1):
        assert rig.next() == place
        rig.fail(FaultKind.ERROR)
    with pytest.raises(LlmactorsError, match="error"):
        rig.next()


def test_answer_gives_all_tries_back() -> None:
    rig = Rig("http://a/v1,attempts=2")
    for _ in range(5):
        rig.next()
        assert rig.last is not None
        rig.tries.note_begin(rig.last, rig.now)
        rig.fail(FaultKind.CUT)
        rig.next()
        rig.tries.note_begin(rig.last, rig.now)


def test_cut_answers_open_the_circuit() -> None:
    """Each of them has begun. A whole answer between them shows that the upstream works."""
    for whole in (True, False):
        rig = Rig("http://a/v1")
        circuit = rig.balance.circuits[0]
        for _ in range(3):
            rig.tries = Tries(rig.settings, rig.balance)
            rig.next()
            assert rig.last is not None
            rig.tries.note_begin(rig.last, rig.now)
            if whole:
                rig.tries.note_whole(rig.last)
            rig.fail(FaultKind.CUT)
        assert circuit.state is (CircuitState.CLOSED if whole else CircuitState.OPEN)


def test_few_requests_are_sent_twice_at_a_time() -> None:
    """However each of them ends."""
    rig = Rig("http://a/v1|http://b/v1,slots=8")

    def second() -> Try | None:
        rig.tries = Tries(rig.settings, rig.balance)
        rig.next()
        assert rig.last is not None
        return rig.tries.choose_second(rig.last, rig.now, RNG)

    first, tries = second(), rig.tries
    assert first is not None
    kept = second()
    assert kept is not None
    assert second() is None
    tries.note_begin(first, rig.now)
    tries.end(first)
    assert rig.balance.hedges_running == 1
    again, tries = second(), rig.tries
    assert again is not None
    tries.note_fault(again, UpstreamFault(FaultKind.BUSY, BackendFailed("busy")), rig.now, RNG)
    tries.end(again)
    tries.end(again)
    assert rig.balance.hedges_running == 1


def test_trouble_quotes_no_client() -> None:
    """The text of a refused request may quote the prompt, and the trouble of an upstream is logged."""
    rig = Rig("http://a/v1")
    rig.balance.note_fault(0, UpstreamFault(FaultKind.KEY, BackendFailed("the key")), 0.0, RNG)
    rig.balance.note_fault(0, UpstreamFault(FaultKind.REFUSED, BackendFailed("a secret prompt")), 0.0, RNG)
    assert rig.balance.counters[0].last_fault == "the key"


def test_end_of_a_begun_answer_ends_no_trial_of_others() -> None:
    rig = Rig("http://a/v1")
    circuit = rig.balance.circuits[0]
    circuit.open(rig.now, RNG)
    rig.now = circuit.next_at(rig.now)
    rig.next()
    assert rig.last is not None
    rig.tries.note_begin(rig.last, rig.now)
    circuit.open(rig.now, RNG)
    rig.now = circuit.next_at(rig.now)
    assert isinstance(Tries(rig.settings, rig.balance).choose(rig.now, RNG), Try)  # the trial of another request
    rig.tries.end(rig.last)
    assert not circuit.admits(rig.now)
