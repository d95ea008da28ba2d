"""The settings and the statistics of a link."""

from collections.abc import Mapping

import attrs


@attrs.frozen
class LinkSettings:
    """Times in seconds."""

    connect_s: float = 5.0
    """The time to connect and log in."""
    command_s: float = 3.0
    """The connection is closed if a command gets no reply for this long."""
    ping_every_s: float = 1.0
    """How often a heartbeat is sent."""
    max_queued_bytes: int = 32 * 1024 * 1024
    """The most bytes of commands that the socket has not taken yet."""
    max_in_flight: int = 4096
    """The most commands without a reply."""
    backoff_min_s: float = 0.05
    """The shortest pause before the next connect; `backoff_max_s` is the longest."""
    backoff_max_s: float = 1.0
    wait_for_server_s: float = 0.0
    """How long the first connect is retried before `run` raises its error."""
    starts_without_server: bool = False
    """Whether `run` counts as started, and goes on, where the first connect failed for a reason that may pass."""


@attrs.frozen
class ServerIdentity:
    """The server that answered."""

    kind: str
    """`redis` or `valkey`."""
    version: str
    role: str
    """`master` or `replica`, at the time of the connect."""
    run_id: str | None = None
    """The id of the server's run, which changes with each start; None if the user may not ask for the id."""


@attrs.frozen
class LinkStatistics:
    """The state of a link at one moment, and its counts since it was made."""

    address: str
    """Where the link connects to, without the password."""
    up: bool
    connects: int
    in_flight: int
    queued_bytes: int
    commands: int
    """Commands accepted, whatever their outcome."""
    unknown: int
    """Commands whose outcome is unknown: they were sent, and their replies were lost."""
    overflows: int
    """Commands refused because too many were waiting."""
    error_replies: Mapping[str, int]
    """Error replies by their kind, as `ReplyError.kind` has it."""
    last_error: str | None
    """Why the last connection ended, or could not be made."""
    server: ServerIdentity | None
    """The server that answered last."""

    @property
    def run_id(self) -> str | None:
        """The `run_id` of the server that answered last."""
        return None if self.server is None else self.server.run_id
