"""What every node's tree has in common: its root, and the ledger's bounds from the settings."""

from collections.abc import Sequence

from llmactors.actors import ActorSpec, Strategy, SupervisorSpec
from llmactors.config import Settings
from llmactors.ledger import LedgerSettings


def ledger_settings(settings: Settings) -> LedgerSettings:
    """The ledger's bounds, which all nodes of a cluster should agree on."""
    return LedgerSettings(
        max_queued=settings.max_queued,
        retention_s=settings.retention_s,
        tombstone_s=settings.tombstone_s,
        lease_s=settings.lease_s,
        quarantine_from_attempt=settings.quarantine_from_attempt,
    )


def node_of(infra: Sequence[ActorSpec], serving: Sequence[ActorSpec | SupervisorSpec]) -> SupervisorSpec:
    """The tree's root: what serves starts after what it stands on, and with it again."""
    return SupervisorSpec(
        "node",
        (SupervisorSpec("infra", tuple(infra)), SupervisorSpec("serving", tuple(serving), intensity=5, period_s=30.0)),
        strategy=Strategy.REST_FOR_ONE,
        intensity=3,
        period_s=60.0,
    )
