"""What can be set on a link, and what it tells about itself."""

import attrs


@attrs.frozen
class LinkSettings:
    """Times in seconds."""

    connect_s: float = 5.0
    """To connect and to greet, all in all."""
    command_s: float = 3.0
    """A command without a reply for this long closes the connection."""
    ping_every_s: float = 1.0
    max_queued_bytes: int = 32 * 1024 * 1024
    """Commands that the socket did not take yet."""
    max_in_flight: int = 4096
    """Commands without a reply."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    wait_for_server_s: float = 0.0
    """How long the first connect may fail before `run` gives up."""


@attrs.frozen
class ServerIdentity:
    """Who answered. A server that started again has another `run_id`; None where the user may not ask for it."""

    kind: str
    """`redis` or `valkey`."""
    version: str
    role: str
    """`master` or `replica`, when we connected."""
    run_id: str | None = None


@attrs.frozen
class LinkStatistics:
    """One look at a link. Counts are since its birth."""

    address: str
    """Where it connects to, without the password."""
    up: bool
    connects: int
    in_flight: int
    queued_bytes: int
    commands: int
    """Accepted, whatever came of them."""
    unknown: int
    """Commands whose outcome nobody knows."""
    overflows: int
    """Commands that were not taken because the queue was full."""
    last_error: str | None
    """Why the last connection ended, or why there is none."""
    server: ServerIdentity | None
    """Who answered last."""

    @property
    def run_id(self) -> str | None:
        """The server's own."""
        return None if self.server is None else self.server.run_id
