"""What one node says of itself, as it stands in the directory."""

import enum
import secrets

import attrs
import msgspec

from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelState
from llmactors.cluster.process_id import ProcessId

TTL_S = 3.0
"""A node that is silent for this long is no longer in the directory."""
RENEW_EVERY_S = 1.0


class Role(enum.Enum):
    """What a node does."""

    GATEWAY = "gateway"
    WORKER = "worker"


@attrs.frozen
class ModelReport:
    """One model of a worker."""

    name: str
    state: ModelState = ModelState.STARTING
    capabilities: Capabilities | None = None
    detail: str = ""


@attrs.frozen
class NodeLoad:
    """How much a worker has in hand."""

    running: int = 0
    slots: int = 0


@attrs.frozen(kw_only=True)
class NodeRecord:
    """One node, as it was at its last renewal."""

    name: str
    role: Role
    incarnation: str
    """Random; another with each start of the process."""
    process: ProcessId
    started_at: float
    """Seconds since 1970, by the node's own clock."""
    version: str
    address: str = ""
    """A gateway's URL; of a worker that of its metrics, empty where it serves none."""
    renewed_at: float = 0.0
    """As `started_at`. Who sees it change knows that the node lives."""
    draining: bool = False
    load: NodeLoad = NodeLoad()
    models: tuple[ModelReport, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(data: bytes) -> "NodeRecord":
        """Raises `msgspec.DecodeError` for what no node of this kind wrote."""
        return msgspec.json.decode(data, type=NodeRecord)

    def __str__(self) -> str:
        return f"{self.role.value} on {self.process.host}, pid {self.process.pid}"


def new_incarnation() -> str:
    """A random name for one start of a node."""
    return secrets.token_hex(8)
