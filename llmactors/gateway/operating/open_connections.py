"""The connections that serve requests of clients now: for a drill that cuts one of them."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from llmactors.http.exchange import Exchange


class Connection(Protocol):
    """The connection of an exchange."""

    def cut(self, why: str) -> None:
        """Ends the connection without waiting for the client."""
        ...


class OpenConnections:
    """The open connections of one gateway."""

    def __init__(self) -> None:
        self._open: dict[Exchange, Connection] = {}

    def __repr__(self) -> str:
        return f"<OpenConnections of {len(self._open)} exchanges>"

    @contextlib.contextmanager
    def noting(self, exchange: Exchange) -> Iterator[None]:
        """Knows the connection of the exchange in the block."""
        connection = exchange.scope.get("state", {}).get("wire")
        if connection is None:
            yield
            return
        self._open[exchange] = connection
        try:
            yield
        finally:
            del self._open[exchange]

    def cut(self, request_id: str) -> int:
        """Cuts all connections over which clients read the request. Returns how many there were."""
        found = [connection for exchange, connection in self._open.items() if request_id in _ids_of(exchange)]
        for connection in found:
            connection.cut("an operator asked for this cut")
        return len(found)


def _ids_of(exchange: Exchange) -> tuple[str, str | None]:
    # The id of an exchange becomes that of its request when the request is admitted.
    return exchange.request_id, exchange.parameters.get("id")
