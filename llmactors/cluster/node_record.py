"""The record of one node in the directory."""

import enum
import secrets

import attrs
import msgspec

from llmactors.backends.base import Capabilities
from llmactors.backends.directory import ModelState
from llmactors.cluster.process_id import ProcessId
from llmactors.telemetry.history import Counts

TTL_S = 3.0
"""A node that does not renew its record for this time leaves the directory, in seconds."""
RENEW_EVERY_S = 1.0


class Role(enum.Enum):
    """The kind of a node."""

    GATEWAY = "gateway"
    WORKER = "worker"
    SINGLE = "single"
    """A process that is gateway and worker in one. No directory has the record of such a node."""


@attrs.frozen
class ModelReport:
    """One model of a worker."""

    name: str
    state: ModelState = ModelState.STARTING
    capabilities: Capabilities | None = None
    detail: str = ""
    ready_in_s: float | None = None
    """As `ModelStatus.ready_in_s`."""
    declared: bool = False
    """Whether the model is one of the setting `models`: requests for it are accepted while no worker runs."""
    running: int = 0
    """How many requests the model's backend runs."""
    tokens_per_s: float = 0.0
    """The tokens that the model's backend has made in a second, over the last seconds."""


@attrs.frozen
class NodeLoad:
    """What a node does now."""

    running: int = 0
    """How many requests a worker runs."""
    slots: int = 0
    """How many requests a worker can run."""
    followed_streams: int = 0
    """How many answers a gateway is sending."""
    loop_stall_s: float = 0.0
    """The longest stall of the event loop in the last one to two minutes."""


@attrs.frozen(kw_only=True)
class NodeRecord:
    """The state of one node at the last renewal of the record."""

    name: str
    role: Role
    incarnation: str
    """A random name for this start of the process."""
    process: ProcessId
    started_at: float
    """Seconds since 1970, by the node's own clock."""
    version: str
    address: str = ""
    """The URL of a gateway, or of a worker's operator routes; empty where a worker serves none."""
    renewed_at: float = 0.0
    """As `started_at`. A reader that sees this value change knows that the node lives."""
    draining: bool = False
    """Whether the node takes no new work, because it shuts down or has a cordon."""
    cordoned: bool = False
    """Whether an operator has drained the node, and the node knows that. `NodeStore.cordon_of` tells until when."""
    load: NodeLoad = NodeLoad()
    counts: Counts = attrs.field(factory=Counts)
    """What the node has counted since its start."""
    models: tuple[ModelReport, ...] = ()

    def encode(self) -> bytes:
        """The record as JSON."""
        return msgspec.json.encode(self)

    @staticmethod
    def decode(data: bytes) -> "NodeRecord":
        """Decodes a record. Raises `msgspec.DecodeError` for anything else."""
        return msgspec.json.decode(data, type=NodeRecord)

    def __str__(self) -> str:
        return f"{self.role.value} on {self.process.host}, pid {self.process.pid}"


def new_incarnation() -> str:
    """A random name for one start of a node."""
    return secrets.token_hex(8)
