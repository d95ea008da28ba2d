"""What every node has in common: the shape of the tree, and the ledger's settings."""

from collections.abc import Sequence

import trio

from llmactors.actors import ActorSpec, Strategy, SupervisorSpec, Tree
from llmactors.config import Settings
from llmactors.ledger import LedgerSettings
from llmactors.telemetry import Metrics
from llmactors.telemetry.restarts import RecentRestarts
from llmactors.telemetry.tree import LoggingObserver, fill_mailbox_gauges

_NEVER_GIVES_UP = 10_000
"""Restarts in a minute, far more than the waits between restarts allow."""


def ledger_settings(settings: Settings) -> LedgerSettings:
    """The ledger's bounds. All nodes of a cluster should have the same."""
    return LedgerSettings(
        max_queued=settings.max_queued,
        retention_s=settings.retention_s,
        tombstone_s=settings.tombstone_s,
        lease_s=settings.lease_s,
        affinity_wait_s=settings.affinity_wait_s,
        preempt_after_s=settings.preempt_after_s,
        quarantine_from_attempt=settings.quarantine_from_attempt,
        usage_records_max=settings.usage_records_max,
        usage_records_s=settings.usage_records_s,
        usage_sums_max=settings.usage_sums_max,
        usage_hours_s=settings.usage_hours_s,
        usage_days_s=settings.usage_days_s,
    )


def preempt_every_s(settings: Settings) -> float:
    """How often a full batcher asks whether it has to give up a slot, in seconds; 0 for never."""
    return min(0.25, max(0.05, settings.preempt_after_s / 4)) if settings.preempt_after_s else 0.0


def node_tree(
    *,
    infra: Sequence[ActorSpec],
    http: Sequence[ActorSpec] = (),
    serving: Sequence[ActorSpec | SupervisorSpec] = (),
    joining: Sequence[ActorSpec] = (),
    metrics: Metrics,
    restarts: RecentRestarts | None = None,
) -> Tree:
    """The tree of a node. All others start after `infra`, and restart with `infra` where that gives up.

    `http` starts before `serving`, so that health probes have an answer while models load. Its supervisor never gives
    up: a gateway that crashes again and again is restarted every few seconds, and no model is loaded again for that.
    `joining` starts last: what a gateway below a keeper starts once it is the active one.

    The tree's events are logged and counted in `metrics`, and its newest restarts are kept in `restarts`. Each scrape
    of `metrics` reads the tree's mailboxes and counts the tasks.
    """
    groups = [SupervisorSpec("infra", tuple(infra))]
    if http:
        groups.append(SupervisorSpec("http", tuple(http), intensity=_NEVER_GIVES_UP, period_s=60.0))
    if serving:
        groups.append(SupervisorSpec("serving", tuple(serving), intensity=5, period_s=30.0))
    if joining:
        groups.append(SupervisorSpec("joining", tuple(joining), intensity=5, period_s=30.0))
    root = SupervisorSpec(
        "node",
        tuple(groups),
        strategy=Strategy.REST_FOR_ONE,
        intensity=3,
        period_s=60.0,
    )
    tree = Tree(root, observer=LoggingObserver(metrics, restarts))
    metrics.on_scrape(lambda: fill_mailbox_gauges(tree, metrics))
    metrics.on_scrape(lambda: metrics.tasks(trio.lowlevel.current_statistics().tasks_living))
    return tree
