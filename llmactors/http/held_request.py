"""A request on a connection that may outlive this process."""

from typing import Protocol

import attrs

from llmactors.http.held_websocket import HeldWebSocket
from llmactors.http.request_id import derived_request_id


class HeldCall(Protocol):
    """What a client asks for on such a connection, by a request or by a message of a WebSocket."""

    @property
    def origin(self) -> str:
        """The text that `derived_request_id` makes ids of."""
        ...

    @property
    def is_repeated(self) -> bool:
        """Whether an earlier gateway may have handled the call."""
        ...

    @property
    def is_begun(self) -> bool:
        """Whether an earlier gateway has begun to answer the call in parts, and so has accepted it."""
        ...


class HeldOutput(Protocol):
    """The connection of such a request."""

    reached: bytes | int
    """Where the next write brings the client."""

    def resume(self) -> None:
        """Writes again what the application writes."""
        ...

    def give_up(self, why: str) -> None:
        """Cuts the connection."""
        ...

    def begin_websocket(self, head: bytes) -> HeldWebSocket:
        """Serves frames from here on, if the handshake with this head is accepted."""
        ...

    def note_answer(self, method: str, path: str, application: bytes) -> None:
        """Notes the answer that has begun, for a gateway that takes the connection over."""
        ...


@attrs.define(eq=False)
class HeldRequest:
    """What an exchange knows of the held connection that it is on. `taken_connection` says what it is for."""

    _connection: HeldOutput
    origin: str
    """The text that `derived_request_id` makes ids of."""
    is_repeated: bool
    """Whether an earlier gateway may have handled the request."""
    reached: bytes | None
    """How far the client has got in the response to this request; None for a response that begins. Set until
    `resume`."""
    websocket: HeldWebSocket | None = None
    """What the WebSocket leaves that this request asks for; None for other requests."""

    age_s: float = 0.0
    """How long ago the client began to send the request, where an earlier gateway has a part of it."""

    @property
    def is_begun(self) -> bool:
        """Whether an earlier gateway has begun to answer the request in parts, and so has accepted it."""
        return self.reached is not None

    @property
    def request_id(self) -> str:
        """The id of the exchange. A gateway that reads the same request again finds the same id."""
        return derived_request_id(self.origin)

    def note(self, reached: bytes | int) -> None:
        """Says how far the next write brings the client, in a form that the handler of this request understands.

        A number is the same as its decimal digits, and costs less.
        """
        self._connection.reached = reached

    def resume(self) -> None:
        """Says that the handler stands where `reached` says. What it writes from now on is sent."""
        self.reached = None
        self._connection.resume()

    def note_answer(self, method: str, path: str, application: bytes) -> None:
        """Notes the answer that has begun, whose body has chunks: a gateway that takes the connection over goes on with
        it by this note, without the request.
        """
        self._connection.note_answer(method, path, application)

    def begin_websocket(self, head: bytes) -> HeldWebSocket:
        """The request is the handshake of a WebSocket, and has this head."""
        self.websocket = self._connection.begin_websocket(head)
        return self.websocket

    def refuse(self, why: str) -> None:
        """Cuts the connection: the request cannot be repeated."""
        self._connection.give_up(why)
