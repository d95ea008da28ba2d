"""Batchers and backends over a ledger in memory, with no gateway and no limiter: for measuring them by themselves."""

from collections.abc import Sequence

import attrs

from llmactors.actors import ActorSpec, Tree
from llmactors.backends.build import ServedModel
from llmactors.backends.directory import ModelDirectory
from llmactors.batcher.settings import BatcherSettings
from llmactors.config import Settings
from llmactors.ledger import MemoryLedger
from llmactors.ledger.actor import ReaperActor
from llmactors.system import wiring
from llmactors.system.model_actors import model_actors, model_directory
from llmactors.telemetry import Metrics


@attrs.frozen
class ServingOnly:
    """A tree that is not started yet, and the ledger that its batchers claim requests from."""

    tree: Tree
    ledger: MemoryLedger
    directory: ModelDirectory


def serving_only(settings: Settings, models: Sequence[ServedModel]) -> ServingOnly:
    """Wires a batcher and a backend for each model."""
    ledger, metrics = MemoryLedger(wiring.ledger_settings(settings)), Metrics()
    directory = model_directory(models)
    made = model_actors(
        settings,
        models,
        ledger=ledger,
        directory=directory,
        metrics=metrics,
        batching=BatcherSettings(),
    )
    tree = wiring.node_tree(
        infra=(ActorSpec("reaper", lambda: ReaperActor(ledger)),),
        serving=made.all,
        metrics=metrics,
    )
    return ServingOnly(tree, ledger, directory)
