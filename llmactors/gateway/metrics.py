"""What the gateway counts. The system hands in something that counts for real."""

from typing import Protocol


class GatewayMetrics(Protocol):
    """Called a few times per request and once per write, never per token."""

    def request_started(self) -> None: ...

    def request_finished(self, status: int, latency_s: float, code: str | None) -> None:
        """One exchange or WebSocket stream is over. `code` is an error's, None for a success."""
        ...

    def limited(self, limit: str) -> None:
        """A caller was refused by this limit, which is the name of a kind and not of a caller."""
        ...

    def first_token(self, seconds: float) -> None:
        """From the request's arrival to its first token on the wire."""
        ...

    def tokens_generated(self, count: int) -> None:
        """Tokens on the wire."""
        ...

    def ledger(self, *, queued: int, running: int, ended: int, requeued_total: int, fenced_total: int) -> None:
        """The ledger's statistics, right before `render`."""
        ...

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        ...
