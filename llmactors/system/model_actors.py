"""The actors that serve models: a backend and a batcher for each model."""

import math
from collections.abc import Iterable, Sequence

import attrs

from llmactors.actors import ActorSpec, SupervisorSpec
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend, HasUpstreams
from llmactors.backends.build import ServedModel
from llmactors.backends.directory import ModelDirectory, ModelStatus
from llmactors.backends.fetching import fetch_files
from llmactors.batcher.actor import BatcherActor
from llmactors.batcher.settings import BatcherSettings
from llmactors.config import Settings
from llmactors.ledger import Ledger
from llmactors.telemetry import Metrics


@attrs.frozen
class ModelActors:
    """The supervisor of all backends, and one batcher for each model."""

    backends: SupervisorSpec
    batchers: tuple[ActorSpec, ...]


def model_actors(
    settings: Settings,
    models: Sequence[ServedModel],
    *,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
) -> ModelActors:
    """Makes a backend and a batcher for each of `models`."""
    health = HealthSettings(stalled_s=settings.stalled_s, hung_s=settings.hung_s)
    backends: list[ActorSpec] = []
    batchers: list[ActorSpec] = []
    newest: dict[str, Backend] = {}
    for model in models:
        backend, batcher = _pair(model, newest, ledger, directory, metrics, batching, health)
        backends.append(backend)
        batchers.append(batcher)
    metrics.on_scrape(lambda: _show_upstreams(newest.values(), metrics))
    # The supervisor never gives up: it restarts a broken backend every few seconds while the other models serve.
    supervised = SupervisorSpec("backends", tuple(backends), intensity=30 * len(backends), period_s=60.0)
    return ModelActors(supervised, tuple(batchers))


def _show_upstreams(backends: Iterable[Backend], metrics: Metrics) -> None:
    """Shows an upstream of several models as up where all of them send requests there."""
    states: dict[str, bool] = {}
    for backend in backends:
        if isinstance(backend, HasUpstreams):
            for url, up in backend.upstreams().items():
                states[url] = up and states.get(url, True)
    for url, up in states.items():
        metrics.upstream(url, up=up)


def _pair(
    model: ServedModel,
    newest: dict[str, Backend],
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
    health: HealthSettings,
) -> tuple[ActorSpec, ActorSpec]:
    def make() -> Backend:
        newest[model.name] = model.make()
        return newest[model.name]

    def show(progress: str) -> None:
        directory.put(model.name, ModelStatus(detail=f"({progress})" if progress else ""))

    async def prepare() -> None:
        if model.fetch is not None:
            await fetch_files(model.name, model.fetch, show)

    batcher = ActorSpec(
        f"batcher:{model.name}",
        lambda: BatcherActor(
            model.name, backend=backend.ref, ledger=ledger, directory=directory, settings=batching, metrics=metrics
        ),
        # The grace is short, because a batcher that does not stop at once waits for a ledger that is away.
        grace_s=1.0,
        cleanup_s=2.0,
    )
    backend = ActorSpec(
        model.name,
        lambda: BackendActor(make, batcher.ref, health, prepare),
        start_s=math.inf,  # the download of a large model takes hours; the actor bounds the start of the backend
        cleanup_s=10.0,
    )
    return backend, batcher
