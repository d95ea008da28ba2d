"""Which models are loaded and unloaded: within the memory, fair to all, and with few loads."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmactors.backends.residency import ResidencyPhase
from llmactors.model_pool.model import ModelView, PoolModel, PoolRules
from llmactors.model_pool.plan import PoolPlan, plan_changes
from tests.support.pool_simulation import STEP_S, Arrival, PoolSimulation, SimulatedModel

NOW = 1000.0
RULES = PoolRules(memory_bytes=2, min_turn_s=5.0, patience_s=30.0)
LONG_AGO = NOW - 500.0


def loaded(**more: object) -> ModelView:
    """A model that has been in memory for long."""
    fields = {"phase": ResidencyPhase.LOADED, "wanted": True, "since": LONG_AGO, "used_at": LONG_AGO} | more
    return ModelView(**fields)  # type: ignore[arg-type]


def waiting(missed_s: float = 1.0, **more: object) -> ModelView:
    """A model that is not in memory, and for which a request waits."""
    return ModelView(waiting=1, missed_s=missed_s, **more)  # type: ignore[arg-type]


def plan(needs: dict[str, int], groups: dict[str, str] | None = None, **views: ModelView) -> PoolPlan:
    models = {
        name: PoolModel(name=name, need_bytes=need, group=(groups or {}).get(name, "")) for name, need in needs.items()
    }
    return plan_changes(models, views, RULES, NOW)


def test_what_waits_is_loaded_where_there_is_room() -> None:
    assert plan({"a": 1, "b": 1}, a=waiting(), b=ModelView()) == PoolPlan(load=("a",))


def test_oldest_request_is_served_first() -> None:
    found = plan({"a": 2, "b": 2}, a=waiting(3.0), b=waiting(4.0))
    assert found.load == ("b",)


def test_longest_idle_model_leaves() -> None:
    idle, newer = loaded(used_at=NOW - 9), loaded(used_at=NOW - 8)
    assert plan({"a": 1, "b": 1, "c": 1}, a=newer, b=idle, c=waiting()) == PoolPlan(unload=("b",), room_for=("c",))


def test_no_more_models_leave_than_needed() -> None:
    oldest, large = loaded(used_at=NOW - 9), loaded(used_at=NOW - 8)
    models = {name: PoolModel(name=name, need_bytes=need) for name, need in {"a": 1, "b": 3, "c": 3}.items()}
    views = {"a": oldest, "b": large, "c": waiting()}
    found = plan_changes(models, views, PoolRules(memory_bytes=4), NOW)
    assert found.unload == ("b",)


def test_busy_model_stays_until_patience_ends() -> None:
    busy = loaded(running=1, waiting=1)
    assert plan({"a": 2, "b": 2}, a=busy, b=waiting(29.0)) == PoolPlan()
    assert plan({"a": 2, "b": 2}, a=busy, b=waiting(30.0)) == PoolPlan(unload=("a",), room_for=("b",))


def test_model_with_an_empty_queue_leaves_after_its_turn() -> None:
    assert plan({"a": 2, "b": 2}, a=loaded(running=1, since=NOW - 4), b=waiting()) == PoolPlan()
    assert plan({"a": 2, "b": 2}, a=loaded(running=1, since=NOW - 6), b=waiting()).unload == ("a",)


def test_turn_is_longer_for_what_loads_slowly() -> None:
    busy = loaded(running=1, waiting=1, since=NOW - 50, load_s=30.0)
    assert plan({"a": 2, "b": 2}, a=busy, b=waiting(100.0)) == PoolPlan()


def test_loading_model_is_not_interrupted() -> None:
    loading = loaded(phase=ResidencyPhase.LOADING)
    assert plan({"a": 2, "b": 2}, a=loading, b=waiting(100.0)) == PoolPlan()


def test_small_models_leave_room_for_a_large_overdue_one() -> None:
    busy = loaded(running=1, waiting=1, since=NOW - 1)
    found = plan({"a": 1, "b": 2, "c": 1}, a=busy, b=waiting(31.0), c=waiting(1.0))
    assert found == PoolPlan()
    assert plan({"a": 1, "b": 2, "c": 1}, a=busy, b=waiting(2.0), c=waiting(1.0)).load == ("c",)


def test_model_that_leaves_is_waited_for() -> None:
    leaving = loaded(wanted=False, running=1)
    assert plan({"a": 2, "b": 2}, a=leaving, b=waiting()) == PoolPlan()


def test_model_stays_when_nobody_waits_for_its_memory() -> None:
    leaving = loaded(wanted=False, running=1)
    assert plan({"a": 2, "b": 2}, a=leaving, b=ModelView()) == PoolPlan(keep=("a",))


def test_models_of_a_group_exclude_each_other() -> None:
    groups = {"a": "g", "b": "g"}
    assert plan({"a": 1, "b": 1}, groups, a=loaded(), b=waiting()) == PoolPlan(unload=("a",), room_for=("b",))
    assert plan({"a": 1, "b": 1}, groups, a=waiting(2.0), b=waiting(1.0)).load == ("a",)


def test_idle_model_is_unloaded_after_its_time() -> None:
    models = {"a": PoolModel(name="a", need_bytes=1, idle_s=60)}
    assert plan_changes(models, {"a": loaded(used_at=NOW - 59)}, RULES, NOW) == PoolPlan()
    assert plan_changes(models, {"a": loaded(used_at=NOW - 60)}, RULES, NOW) == PoolPlan(unload=("a",))


def test_failed_model_waits_for_its_next_try() -> None:
    assert plan({"a": 1}, a=waiting(retry_at=NOW + 1)) == PoolPlan()
    assert plan({"a": 1}, a=waiting(retry_at=NOW)).load == ("a",)


def test_second_copy_takes_only_idle_memory() -> None:
    """Another worker has the model: this one helps where a request waits for long, and nobody else needs the memory."""
    assert plan({"a": 1}, a=waiting(29.0, elsewhere=True)) == PoolPlan()
    assert plan({"a": 1}, a=waiting(30.0, elsewhere=True)).load == ("a",)
    busy = loaded(running=1, waiting=1)
    assert plan({"a": 2, "b": 2}, a=busy, b=waiting(99.0, elsewhere=True)) == PoolPlan()
    assert plan({"a": 2, "b": 2}, a=waiting(99.0, elsewhere=True), b=waiting(1.0)).load == ("b",)


NAMES = ["a", "b", "c", "d", "e", "f"]


@st.composite
def simulated_models(draw: st.DrawFn) -> list[SimulatedModel]:
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    return [
        SimulatedModel(
            PoolModel(
                name=name,
                need_bytes=draw(st.integers(1, 4)),
                group=draw(st.sampled_from(["", "", "g", "h"])),
                idle_s=draw(st.sampled_from([math.inf, 2.0])),
            ),
            load_s=draw(st.sampled_from([0.0, 1.0, 4.0])),
            slots=draw(st.integers(1, 3)),
        )
        for name in names
    ]


@st.composite
def arrivals_for(draw: st.DrawFn, models: list[SimulatedModel], within_s: float) -> list[Arrival]:
    names = st.sampled_from([each.model.name for each in models])
    times = st.floats(0, within_s) if within_s else st.just(0.0)
    return draw(st.lists(st.builds(Arrival, times, names, st.sampled_from([0.1, 1.0, 3.0])), max_size=60))


@settings(max_examples=150)
@given(st.data(), simulated_models(), st.integers(4, 8))
def test_model_that_is_waited_for_is_loaded_within_a_bound(
    data: st.DataObject, models: list[SimulatedModel], memory_bytes: int
) -> None:
    rules = PoolRules(memory_bytes=memory_bytes, min_turn_s=2.0, patience_s=5.0)
    arrivals = data.draw(arrivals_for(models, 40.0))
    simulation = PoolSimulation(models, rules, arrivals)
    simulation.run(until_s=1000.0)
    assert simulation.served == len(arrivals)
    # Each of the other models may have one turn, one longest answer, one unload and one load before.
    turn_s = max(rules.min_turn_s, rules.load_share * 4.0) + 3.0 + 4.0 + 4 * STEP_S
    assert simulation.longest_absence_s <= rules.patience_s + len(models) * turn_s


@pytest.mark.parametrize("memory_bytes", [4, 6, 9])
@settings(max_examples=50)
@given(data=st.data(), models=simulated_models())
def test_burst_within_patience_loads_each_model_once(
    memory_bytes: int, data: st.DataObject, models: list[SimulatedModel]
) -> None:
    rules = PoolRules(memory_bytes=memory_bytes, min_turn_s=2.0, patience_s=10_000.0)
    arrivals = data.draw(arrivals_for(models, 0.0))
    simulation = PoolSimulation(models, rules, arrivals)
    simulation.run(until_s=2000.0)
    assert simulation.loads == len({each.model for each in arrivals})


def test_constant_load_on_two_models_does_not_starve_a_third() -> None:
    models = [SimulatedModel(PoolModel(name=name, need_bytes=1), load_s=1.0, slots=2) for name in "abc"]
    busy = [Arrival(number / 4, "ab"[number % 2], 0.5) for number in range(400)]
    rare = [Arrival(20.0, "c", 0.5), Arrival(60.0, "c", 0.5)]
    rules = PoolRules(memory_bytes=2, min_turn_s=2.0, patience_s=5.0)
    simulation = PoolSimulation(models, rules, [*busy, *rare])
    simulation.run(until_s=300.0)
    # Patience, one answer, an unload and a load: and the same again for the model that had to leave.
    assert simulation.longest_wait_s <= 2 * (5.0 + 2.0 + 1.0 + 4 * 0.25)
    assert simulation.loads <= 2 + 2 * 2 + 2


def test_two_busy_models_share_one_place_in_long_turns() -> None:
    models = [SimulatedModel(PoolModel(name=name, need_bytes=1), load_s=1.0, slots=2) for name in "ab"]
    arrivals = [Arrival(0.0, "ab"[number % 2], 1.0) for number in range(200)]
    simulation = PoolSimulation(models, PoolRules(memory_bytes=1, min_turn_s=2.0, patience_s=20.0), arrivals)
    simulation.run(until_s=300.0)
    assert simulation.loads <= 1 + 100 // 20
