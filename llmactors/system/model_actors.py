"""The actors that serve models: a backend and a batcher for each model."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from llmactors.actors import ActorSpec, SupervisorSpec
from llmactors.backends.actor import BackendActor, HealthSettings
from llmactors.backends.base import Backend, HasUpstreams, MakesSpans, UpstreamState
from llmactors.backends.build import ServedModel
from llmactors.backends.directory import ModelDirectory, ModelState, ModelStatus
from llmactors.backends.fetching import fetch_files
from llmactors.backends.on_demand import OnDemandBackendActor
from llmactors.backends.residency import Residency
from llmactors.batcher.actor import BatcherActor
from llmactors.batcher.settings import BatcherSettings
from llmactors.config import Settings
from llmactors.ledger import Ledger
from llmactors.model_pool.actor import ModelPoolActor
from llmactors.model_pool.budget import measured, pool_rules
from llmactors.model_pool.load_log import LoadLog
from llmactors.model_pool.member import PoolMember
from llmactors.model_pool.others import NoOtherWorkers, OtherWorkers
from llmactors.telemetry import Metrics
from llmactors.telemetry.tracing.tracer import Tracer


@attrs.frozen
class ModelActors:
    """The supervisor of all backends, one batcher for each model, and the pool of the models that load on demand."""

    backends: SupervisorSpec
    batchers: tuple[ActorSpec, ...]
    made: Mapping[str, Backend]
    """The newest backend of each model."""
    pool: tuple[ActorSpec, ...] = ()
    """One actor, or none where no model is loaded on demand."""

    @property
    def all(self) -> tuple[ActorSpec | SupervisorSpec, ...]:
        """In the order of their starts."""
        return self.backends, *self.batchers, *self.pool


def model_directory(models: Sequence[ServedModel]) -> ModelDirectory:
    """The directory of these models."""
    directory = ModelDirectory(tuple(model.name for model in models))
    for model in models:
        if model.on_demand is not None:
            directory.put(model.name, ModelStatus(ModelState.UNLOADED, model.on_demand.capabilities))
    return directory


def model_actors(
    settings: Settings,
    models: Sequence[ServedModel],
    *,
    ledger: Ledger,
    directory: ModelDirectory,
    metrics: Metrics,
    batching: BatcherSettings,
    others: OtherWorkers | None = None,
    takes_work: Callable[[], bool] = lambda: True,
    tracer: Tracer | None = None,
) -> ModelActors:
    """Makes a backend and a batcher for each of `models`, and a pool for those that are loaded on demand.

    `takes_work` tells whether the node takes work: it neither shuts down nor has a cordon. `tracer` is None where the
    node exports no traces.

    Raises `ConfigError` where a model that is loaded on demand does not fit into the memory.
    """
    health = HealthSettings(stalled_s=settings.stalled_s, hung_s=settings.hung_s)
    backends: list[ActorSpec] = []
    batchers: list[ActorSpec] = []
    members: list[PoolMember] = []
    newest: dict[str, Backend] = {}
    known, load_log = others or NoOtherWorkers(), LoadLog(metrics)
    for model in models:
        made = _Pair(model, newest, ledger, directory, metrics, batching, health, takes_work, known, tracer)
        backends.append(made.backend)
        batchers.append(made.batcher)
        if made.member is not None:
            members.append(made.member)
    metrics.on_scrape(lambda: _show_models(directory, metrics))
    metrics.on_scrape(lambda: _show_upstreams(newest, metrics))
    # The supervisor never gives up: it restarts a broken backend every few seconds while the other models serve.
    supervised = SupervisorSpec("backends", tuple(backends), intensity=30 * len(backends), period_s=60.0)
    if not members:
        return ModelActors(supervised, tuple(batchers), newest)
    rules = pool_rules(settings, models)
    pool = ActorSpec(
        "model pool",
        lambda: ModelPoolActor(
            members,
            rules,
            node=batching.node,
            ledger=ledger,
            directory=directory,
            others=known,
            load_log=load_log,
            takes_work=takes_work,
        ),
        grace_s=0.5,
    )
    return ModelActors(supervised, tuple(batchers), newest, (pool,))


def _show_models(directory: ModelDirectory, metrics: Metrics) -> None:
    """Shows the state of each model. A model that is not in memory has no slots."""
    states = [each.value for each in ModelState if each is not ModelState.GONE]
    for name, status in directory.items():
        serves = status.state in {ModelState.READY, ModelState.STALLED} and status.capabilities is not None
        slots = status.capabilities.slots if serves and status.capabilities is not None else 0
        metrics.models.show_state(name, status.state.value, states, slots=slots, busy=directory.running[name])


def _show_upstreams(backends: Mapping[str, Backend], metrics: Metrics) -> None:
    """Shows an upstream of several models as up where all of them send requests there."""
    states: dict[str, list[UpstreamState]] = {}
    for model, backend in backends.items():
        if isinstance(backend, HasUpstreams):
            counts = {"up": 0, "open": 0, "trial": 0}
            for state in backend.upstreams():
                states.setdefault(state.url, []).append(state)
                counts["open" if state.trouble else "trial" if state.on_trial else "up"] += 1
            metrics.models.show_upstreams(model, counts)
    for url, found in states.items():
        metrics.upstream(
            url,
            up=not any(state.trouble for state in found),
            tries=_add_up(state.tries for state in found),
            hedges=_add_up(state.hedges for state in found),
            failovers=_add_up(state.failovers for state in found),
        )


def _add_up(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


class _Pair:
    """The backend actor and the batcher of one model, and the model's place in the pool if it has one."""

    def __init__(
        self,
        model: ServedModel,
        newest: dict[str, Backend],
        ledger: Ledger,
        directory: ModelDirectory,
        metrics: Metrics,
        batching: BatcherSettings,
        health: HealthSettings,
        takes_work: Callable[[], bool],
        others: OtherWorkers,
        tracer: Tracer | None,
    ) -> None:
        self._model = model
        self._newest = newest
        self._directory = directory
        self._tracer = tracer
        residency = self._residency = None if model.on_demand is None else Residency(model.name)
        self.batcher = ActorSpec(
            f"batcher:{model.name}",
            lambda: BatcherActor(
                model.name,
                backend=self.backend.ref,
                ledger=ledger,
                directory=directory,
                settings=batching,
                metrics=metrics,
                residency=residency,
                tracer=tracer,
                takes_work=takes_work,
                is_ready_elsewhere=lambda: others.is_ready(model.name),
            ),
            # The grace is short, because a batcher that does not stop at once waits for a ledger that is away.
            grace_s=1.0,
            cleanup_s=2.0,
        )
        self.backend = ActorSpec(
            model.name,
            lambda: (
                BackendActor(self._make, self.batcher.ref, health, self._fetch)
                if residency is None
                else OnDemandBackendActor(self._make, self.batcher.ref, health, residency, self._fetch)
            ),
            start_s=math.inf,  # the download of a large model takes hours; the actor bounds the start of the backend
            cleanup_s=10.0,
        )
        self.member = None if residency is None else self._member(residency)

    def _member(self, residency: Residency) -> PoolMember:
        model = self._model
        assert model.on_demand is not None  # noqa: S101 - a model with a residency is loaded on demand
        return PoolMember(
            name=model.name,
            residency=residency,
            backend=self.backend.ref,
            measure=model.measure,
            need_bytes=measured(model),
            fetch=self._fetch,
            group=model.on_demand.group,
            idle_s=model.on_demand.idle_s,
        )

    def _make(self) -> Backend:
        backend = self._newest[self._model.name] = self._model.make()
        if self._tracer is not None and isinstance(backend, MakesSpans):
            backend.use_tracer(self._tracer)
        return backend

    async def _fetch(self) -> None:
        if self._model.fetch is not None:
            await fetch_files(self._model.name, self._model.fetch, self._show)

    def _show(self, progress: str) -> None:
        if self._residency is not None:
            self._residency.detail = progress
        else:
            self._directory.put(self._model.name, ModelStatus(detail=f"({progress})" if progress else ""))
