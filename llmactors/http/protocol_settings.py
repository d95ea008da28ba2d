"""What a protocol takes from its server and from its connection."""

from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from llmactors.http.byte_budget import ByteBudget

Address = tuple[str, int] | None
ErrorResponse = Callable[[int, str], tuple[list[tuple[bytes, bytes]], bytes]]
"""Makes the headers and the body of an error response from its status and its message."""


def client_host(client: Address) -> str:
    """The host of a client's address, for people."""
    return client[0] if client else "local"


class ConnectionOutput(Protocol):
    """The connection below the protocol."""

    async def write(self, data: bytes) -> None:
        """Sends bytes to the client, or drops them if the client is gone."""
        ...

    def set_idle(self, *, idle: bool) -> None:
        """Says whether a request is under way."""
        ...

    async def end(self) -> None:
        """Ends the connection: everything was said."""
        ...

    async def wait_aside(self, event: trio.Event) -> None:
        """Waits for the event, and meanwhile notices if the client goes."""
        ...


@attrs.frozen
class ProtocolSettings:
    """What all connections of a server have in common."""

    max_message_bytes: int
    """The largest WebSocket message that a client may send."""
    error_response: ErrorResponse
    draining: Callable[[], bool]
    """Whether the server takes no further requests."""
    unfinished: ByteBudget
    """The bytes of bodies and messages that have begun and are not complete."""
