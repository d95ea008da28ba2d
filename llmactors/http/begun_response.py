"""The state of HTTP/1.1 amid a response that an earlier process has begun. Pure.

h11 could be brought into this state by a request and a head of a response that it parses and makes for nothing.
"""

from typing import Any

import h11

from llmactors.http.request_head import MAX_HEAD_BYTES


class BegunResponse:
    """Stands for an `h11.Connection` from the middle of a body in chunks to its end.

    Args:
        takes_another: Whether the connection takes another request behind the response.
    """

    def __init__(self, *, takes_another: bool) -> None:
        self._end = h11.DONE if takes_another else h11.MUST_CLOSE
        self.our_state: Any = h11.SEND_BODY
        self.their_state: Any = self._end
        self.they_are_waiting_for_100_continue = False
        self._ahead = b""

    def __repr__(self) -> str:
        return f"<BegunResponse {self.our_state}, {len(self._ahead)} bytes ahead>"

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        """What the client has sent behind its request, as for h11."""
        return self._ahead, False

    def receive_data(self, data: bytes) -> None:
        """Takes the client's next bytes, which wait for the end of the response."""
        self._ahead += data

    def next_event(self) -> Any:
        """The client's next event: none until the response has ended. Raises as h11 where nothing may follow."""
        if not self._ahead:
            return h11.NEED_DATA
        if self._end is h11.MUST_CLOSE:
            self.their_state = h11.ERROR
            raise h11.RemoteProtocolError("Got data when expecting EOF")
        return h11.PAUSED

    def send(self, event: Any) -> bytes:
        """The bytes of a part of the body, or of its end."""
        if isinstance(event, h11.Data):
            data = bytes(event.data)
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self.our_state = self._end
        return b"0\r\n\r\n"


def new_connection() -> h11.Connection:
    """The state of a connection before its first request."""
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


def next_cycle(connection: h11.Connection | BegunResponse) -> h11.Connection:
    """The state before the next request, when an exchange is complete."""
    if isinstance(connection, h11.Connection):
        connection.start_next_cycle()
        return connection
    following = new_connection()
    if ahead := connection.trailing_data[0]:
        following.receive_data(ahead)
    return following
