"""What every node has in common: the shape of the tree, and the ledger's settings."""

from collections.abc import Sequence

import trio

from llmactors.actors import ActorSpec, Strategy, SupervisorSpec, Tree
from llmactors.config import Settings
from llmactors.ledger import LedgerSettings
from llmactors.telemetry import Metrics
from llmactors.telemetry.tree import LoggingObserver, fill_mailbox_gauges


def ledger_settings(settings: Settings) -> LedgerSettings:
    """The ledger's bounds. All nodes of a cluster should have the same."""
    return LedgerSettings(
        max_queued=settings.max_queued,
        retention_s=settings.retention_s,
        tombstone_s=settings.tombstone_s,
        lease_s=settings.lease_s,
        quarantine_from_attempt=settings.quarantine_from_attempt,
    )


def node_tree(*, infra: Sequence[ActorSpec], serving: Sequence[ActorSpec | SupervisorSpec], metrics: Metrics) -> Tree:
    """The tree of a node. `serving` starts after `infra`, and restarts with `infra` where that gives up.

    The tree's events are logged and counted in `metrics`, and each scrape of `metrics` reads the tree's mailboxes
    and counts the tasks.
    """
    root = SupervisorSpec(
        "node",
        (SupervisorSpec("infra", tuple(infra)), SupervisorSpec("serving", tuple(serving), intensity=5, period_s=30.0)),
        strategy=Strategy.REST_FOR_ONE,
        intensity=3,
        period_s=60.0,
    )
    tree = Tree(root, observer=LoggingObserver(metrics))
    metrics.on_scrape(lambda: fill_mailbox_gauges(tree, metrics))
    metrics.on_scrape(lambda: metrics.tasks(trio.lowlevel.current_statistics().tasks_living))
    return tree
