"""Declared models on a gateway, and what a worker knows of the others."""

import pytest

from llmactors.backends.base import Capabilities, Takeover
from llmactors.backends.directory import ModelState
from llmactors.cluster.known_models import KnownModel, KnownModels
from llmactors.cluster.models import ClusterModels
from llmactors.cluster.node_record import ModelReport, NodeRecord, Role
from llmactors.cluster.peers import Peers
from llmactors.cluster.process_id import ProcessId

CAPABLE = Capabilities(slots=4, context_tokens=512, takeover=Takeover.EXACT)


def worker(name: str, *models: ModelReport, draining: bool = False) -> NodeRecord:
    process = ProcessId("here", 1)
    return NodeRecord(
        name=name,
        role=Role.WORKER,
        incarnation=f"{name}-1",
        process=process,
        started_at=0.0,
        version="1",
        models=models,
        draining=draining,
    )


def report(state: ModelState, name: str = "m", ready_in_s: float | None = None) -> ModelReport:
    return ModelReport(name, state, CAPABLE, "", ready_in_s, declared=True)


def state(models: ClusterModels, name: str = "m") -> ModelState:
    status = models.get(name)
    assert status is not None
    return status.state


def test_declared_model_waits_for_workers() -> None:
    models = ClusterModels(10.0, declared={"m": CAPABLE})
    assert models.names == ("m",)
    assert models.problems() == {}
    models.update([worker("w", report(ModelState.READY))], 0.0)
    assert state(models) is ModelState.READY
    for now in range(1, 100):
        models.update([], float(now))
    assert state(models) is ModelState.UNLOADED
    assert models.problems() == {}


def test_model_that_a_worker_declared_stays_known_for_its_time() -> None:
    models = ClusterModels(1.0, known_s=3600.0)
    models.update([], 0.0, [KnownModel("m", CAPABLE, unseen_s=3599.0), KnownModel("old", CAPABLE, unseen_s=3601.0)])
    assert models.names == ("m",)
    assert state(models) is ModelState.UNLOADED
    for now in range(1, 10):
        models.update([], float(now), [KnownModel("m", CAPABLE, unseen_s=3600.0 + now)])
    assert state(models) is ModelState.GONE


def test_undeclared_model_goes_as_before() -> None:
    models = ClusterModels(1.0, known_s=3600.0)
    models.update([worker("w", ModelReport("m", ModelState.READY, CAPABLE))], 0.0)
    models.update([], 0.5)
    assert state(models) is ModelState.DOWN
    models.update([], 2.0)
    assert state(models) is ModelState.GONE


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        ([ModelState.UNLOADED, ModelState.READY], ModelState.READY),
        ([ModelState.UNLOADED, ModelState.LOADING], ModelState.LOADING),
        ([ModelState.FAILED, ModelState.UNLOADED], ModelState.UNLOADED),
        ([ModelState.FAILED, ModelState.FAILED], ModelState.FAILED),
    ],
)
def test_best_worker_gives_the_state(states: list[ModelState], shown: ModelState) -> None:
    models = ClusterModels(1.0)
    models.update([worker(f"w{number}", report(each)) for number, each in enumerate(states)], 0.0)
    assert state(models) is shown


def test_estimate_is_that_of_the_best_worker() -> None:
    models = ClusterModels(1.0)
    records = [worker("w1", report(ModelState.UNLOADED, "m", 9.0)), worker("w2", report(ModelState.LOADING, "m", 2.0))]
    models.update(records, 0.0)
    status = models.get("m")
    assert status is not None
    assert status.ready_in_s == 2.0


def test_peers_know_what_other_workers_serve() -> None:
    peers = Peers("w1", KnownModels(None, "main"))  # type: ignore[arg-type]
    peers.update(
        [
            worker("w1", report(ModelState.READY, "own")),
            worker("w2", report(ModelState.LOADING, "a"), report(ModelState.UNLOADED, "b")),
            worker("w3", report(ModelState.FAILED, "c")),
            worker("w4", report(ModelState.READY, "d"), draining=True),
        ]
    )
    assert peers.serving() == {"a"}
    assert [name for name in ("own", "a", "b", "c", "d") if peers.may_serve(name)] == ["a", "b"]
    assert not any(peers.is_ready(name) for name in ("own", "a", "b", "c", "d"))
    peers.update([worker("w2", report(ModelState.READY, "a"), report(ModelState.STALLED, "b"))])
    assert [name for name in ("a", "b") if peers.is_ready(name)] == ["a"]
