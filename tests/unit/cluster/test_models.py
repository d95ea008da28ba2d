"""The models that a gateway serves, from the records of the workers."""

import attrs
import pytest
import trio
import trio.testing

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.directory import ModelState
from llmactors.cluster.first_look import KNOWN_S
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import ModelReport, NodeRecord, Role
from llmactors.cluster.process_id import ProcessId

CAPABLE = Capabilities(slots=4, context_tokens=512, takeover=Takeover.EXACT)
LARGE = Capabilities(slots=4, context_tokens=4096, takeover=Takeover.EXACT)
READY, STARTING, DOWN, STALLED, GONE = (
    ModelState.READY,
    ModelState.STARTING,
    ModelState.DOWN,
    ModelState.STALLED,
    ModelState.GONE,
)


def worker(name: str, *models: ModelReport, started_at: float = 0.0, draining: bool = False) -> NodeRecord:
    return NodeRecord(
        name=name,
        role=Role.WORKER,
        incarnation=f"{name}-1",
        process=ProcessId("here", 1),
        started_at=started_at,
        version="1",
        models=models,
        draining=draining,
    )


def ready(name: str = "m") -> ModelReport:
    return ModelReport(name, READY, CAPABLE)


def state(models: ClusterModels, name: str = "m") -> ModelState:
    status = models.get(name)
    assert status is not None
    return status.state


def test_model_honours_fields_that_all_workers_honour() -> None:
    """Any of the workers may claim a request."""
    models = ClusterModels(10.0)
    every = [frozenset({"prompt_ids", "logit_bias"}), frozenset({"prompt_ids"}), frozenset({"prompt_ids", "new"})]
    reports = [ModelReport("m", READY, attrs.evolve(CAPABLE, honours=honours)) for honours in every]
    models.update([worker(f"w{n}", report) for n, report in enumerate(reports)], 0.0)
    status = models.get("m")
    assert status is not None
    assert status.capabilities == attrs.evolve(CAPABLE, honours=frozenset({"prompt_ids"}))


def test_gateway_begins_with_the_models_of_another_one() -> None:
    """It accepts requests for them as long as if it had seen their last worker go."""
    other = ClusterModels(10.0)
    other.update([worker("w", ready("b"), ready("a"))], 0.0)
    other.update([], 1.0)
    models = ClusterModels(10.0)
    models.inherit(other.served)
    models.update([worker("v", ModelReport("a", STARTING))], 100.0)
    assert models.names == ("b", "a")
    assert (state(models, "b"), state(models, "a")) == (DOWN, STARTING)
    assert models.served == other.served
    for now in range(101, 120):
        models.update([worker("v", ModelReport("a", STARTING))], float(now))
    assert state(models, "b") is GONE
    assert [each.name for each in models.served] == ["a"]


async def test_who_asks_before_the_first_look_waits(autojump_clock: trio.testing.MockClock) -> None:
    models = ClusterModels(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.wait_known)
        await trio.sleep(3.0)
        assert nursery.child_tasks
        models.update([], 0.0)
    assert trio.current_time() == pytest.approx(3.0)
    await models.wait_known()


@pytest.mark.parametrize("redis_is_away", [True, False])
async def test_who_asks_before_the_first_look_waits_not_for_ever(
    autojump_clock: trio.testing.MockClock, redis_is_away: bool
) -> None:
    models = ClusterModels(10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.wait_known)
        await trio.sleep(1.0)
        if redis_is_away:
            models.first_look.failed()
    assert trio.current_time() == pytest.approx(1.0 if redis_is_away else KNOWN_S)


def test_missing_workers_are_reported_as_a_problem() -> None:
    models = ClusterModels(10.0)
    models.update([], 0.0)
    assert models.names == ()
    assert models.problems() == {"workers": "no worker has joined yet"}


@pytest.mark.parametrize("others", [(), (STARTING,), (DOWN, STALLED), (STALLED, STARTING, DOWN)])
@pytest.mark.parametrize("best", [READY])
def test_model_has_the_state_of_its_best_worker(best: ModelState, others: tuple[ModelState, ...]) -> None:
    models = ClusterModels(10.0)
    reports = [ModelReport("m", each, LARGE) for each in others] + [ModelReport("m", best, CAPABLE)]
    models.update([worker(f"w{n}", report) for n, report in enumerate(reports)], 0.0)
    status = models.get("m")
    assert status is not None
    assert (status.state, status.capabilities) == (best, CAPABLE)
    assert models.problems() == {}


def test_first_model_seen_stays_the_default() -> None:
    models = ClusterModels(10.0)
    models.update([worker("a", ready("late"), started_at=2.0), worker("b", ready("early"), ready("more"))], 0.0)
    assert list(models.names) == ["early", "more", "late"]
    models.update([worker("a", ready("late"), started_at=2.0)], 1.0)
    models.update([worker("0", ready("new")), worker("a", ready("late"))], 2.0)
    assert list(models.names) == ["early", "more", "late", "new"]


def test_model_without_worker_is_gone_after_the_grace() -> None:
    models = ClusterModels(10.0)
    models.update([worker("w", ready())], 0.0)
    seen = {}
    for second in range(1, 13):
        models.update([], float(second))
        seen[second] = (state(models), bool(models.problems()))
    assert [at for at, found in seen.items() if found == (DOWN, False)] == list(range(1, 10))
    assert [at for at, found in seen.items() if found == (GONE, True)] == [10, 11, 12]
    assert models.problems() == {"model:m": "gone no worker serves it"}
    models.update([worker("w", ModelReport("m", STARTING))], 13.0)
    status = models.get("m")
    assert status is not None
    assert (status.state, status.capabilities) == (STARTING, CAPABLE)  # as known, so its requests are accepted again
    models.update([], 14.0)
    assert state(models) is DOWN


def test_time_without_a_reading_does_not_count() -> None:
    models = ClusterModels(10.0)
    models.update([worker("w", ready())], 0.0)
    models.update([], 100.0)  # Redis is back, and the workers have not yet renewed their records
    assert state(models) is DOWN


def test_draining_worker_serves_no_model() -> None:
    models = ClusterModels(10.0)
    models.update([worker("w", ready())], 0.0)
    models.update([worker("w", ready(), draining=True)], 1.0)
    assert state(models) is DOWN
    models.update([worker("w", ready(), draining=True), worker("v", ready())], 2.0)
    assert state(models) is READY


def test_one_gone_model_leaves_the_gateway_ready() -> None:
    models = ClusterModels(1.0)
    models.update([worker("w", ready("a")), worker("v", ready("b"))], 0.0)
    for second in range(1, 5):
        models.update([worker("v", ready("b"))], float(second))
    assert state(models, "a") is GONE
    assert models.problems() == {}


def test_stalled_backend_of_the_only_worker_is_a_problem() -> None:
    models = ClusterModels(10.0)
    models.update([worker("w", ModelReport("m", STALLED, CAPABLE, "no output for 6.0 s"))], 0.0)
    assert models.problems() == {"model:m": "stalled no output for 6.0 s"}
