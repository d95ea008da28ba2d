"""The actors that serve models: a backend and a batcher for each model."""

from collections.abc import Sequence

import attrs

from llmactors.actors import ActorSpec, SupervisorSpec
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.build import ServedModel
from llmactors.backends.directory import ModelDirectory
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
    for model in models:
        backend, batcher = _pair(model, ledger, directory, metrics, batching, health)
        backends.append(backend)
        batchers.append(batcher)
    # The supervisor never gives up: it restarts a broken backend every few seconds while the other models serve.
    supervised = SupervisorSpec("backends", tuple(backends), intensity=30 * len(backends), period_s=60.0)
    return ModelActors(supervised, tuple(batchers))


def _pair(
    model: ServedModel,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
    health: HealthSettings,
) -> tuple[ActorSpec, ActorSpec]:
    batcher = ActorSpec(
        f"batcher:{model.name}",
        lambda: BatcherActor(
            model.name, backend=backend.ref, ledger=ledger, directory=directory, settings=batching, metrics=metrics
        ),
        # Short, because a batcher that does not stop at once waits for a ledger that is away.
        grace_s=1.0,
        cleanup_s=2.0,
    )
    backend = ActorSpec(
        model.name,
        lambda: BackendActor(model.make, batcher.ref, health),
        start_s=600.0,  # a large model on a slow disk loads for minutes
        cleanup_s=10.0,
    )
    return backend, batcher
