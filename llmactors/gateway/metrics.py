"""What a gateway counts. `telemetry.Metrics` implements this Protocol."""

from typing import Protocol


class GatewayMetrics(Protocol):
    """The gateway calls these a few times per request and once per write, never per token."""

    def request_started(self) -> None: ...

    def request_finished(self, status: int, latency_s: float, code: str | None) -> None:
        """Counts an exchange or a WebSocket stream that has ended. `code` is its error's; None for a success."""
        ...

    def limited(self, limit: str) -> None:
        """Counts a request that a limit of this kind has refused."""
        ...

    def first_token(self, seconds: float) -> None:
        """Observes the time from a request's arrival to the write of its first token."""
        ...

    def tokens_generated(self, count: int) -> None:
        """Counts tokens that were written to clients."""
        ...

    def ledger(self, *, queued: int, running: int, ended: int, requeued_total: int, fenced_total: int) -> None:
        """Sets the ledger's figures, before `render`."""
        ...

    def render(self) -> tuple[bytes, str]:
        """The metrics in Prometheus's text format, and the content type."""
        ...
