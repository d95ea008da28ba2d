"""Timers behave as a plain dict of times does."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from llmactors.ledger.core.timers import Timers
from tests.support.residue import residue

KEYS = st.sampled_from("abcdef")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("clear"), KEYS, st.just(0)),
        st.tuples(st.just("pop"), st.just(""), st.integers(0, 20)),
    ),
)


@settings(deadline=None)
@given(ACTIONS)
def test_each_key_is_due_once_at_its_last_time(actions: list[tuple[str, str, int]]) -> None:
    timers = Timers()
    model: dict[str, int] = {}
    for action, key, at in actions:
        if action == "set":
            timers.set(key, at)
            model[key] = at
        elif action == "clear":
            timers.clear(key)
            model.pop(key, None)
        else:
            due = list(timers.pop_due(at))
            assert [model[each] for each in due] == sorted(time for time in model.values() if time <= at)
            for each in due:
                del model[each]
        assert len(timers) == len(model)
        assert timers._due == model


def test_cleared_timers_take_no_memory() -> None:
    timers = Timers()
    timers.set("stays", 1.0)
    for number in range(10_000):
        timers.set(f"k{number}", 1e9)
        timers.clear(f"k{number}")
    assert sum(residue(timers).values()) < 50
    timers.clear("stays")
    assert residue(timers) == {}


def test_first_time_is_that_of_a_key_that_is_set() -> None:
    timers = Timers()
    assert timers.first() == math.inf
    timers.set("a", 1.0)
    timers.set("b", 2.0)
    timers.set("a", 3.0)
    assert timers.first() == 2.0
    timers.clear("b")
    assert timers.first() == 3.0
    assert list(timers.pop_due(3.0)) == ["a"]
