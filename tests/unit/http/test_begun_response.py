"""`BegunResponse` says and does what h11 does in the middle of a response in chunks."""

from typing import Any

import h11
import pytest

from llmactors.http.begun_response import BegunResponse

BODIES = [b"", b"a", b"x" * 5000]


def amid_response(connection: str) -> h11.Connection:
    """What h11 is like behind a request and the head of its response."""
    machine = h11.Connection(h11.SERVER)
    machine.receive_data(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: %b\r\n\r\n" % connection.encode())
    assert isinstance(machine.next_event(), h11.Request)
    assert isinstance(machine.next_event(), h11.EndOfMessage)
    machine.send(h11.Response(status_code=200, headers=[]))
    return machine


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_response_goes_on_as_h11_would(connection: str) -> None:
    real, begun = amid_response(connection), BegunResponse(takes_another=connection != "close")

    def same(ask: Any) -> bool:
        return bool(ask(real) == ask(begun))

    def states(machine: Any) -> object:
        return machine.our_state, machine.their_state, machine.they_are_waiting_for_100_continue, machine.trailing_data

    assert same(states)
    assert same(lambda machine: machine.next_event())
    for body in BODIES:
        assert same(lambda machine, body=body: machine.send(h11.Data(data=body)) or b"")
        assert same(states)
    assert same(lambda machine: machine.send(h11.EndOfMessage()))
    assert same(states)


def test_bytes_behind_the_request_wait_for_their_turn() -> None:
    real, begun = amid_response("keep-alive"), BegunResponse(takes_another=True)
    for machine in (real, begun):
        for part in (b"GET /a HTTP/1.1\r\n", b"host: a\r\n\r\n"):
            machine.receive_data(part)
            assert machine.next_event() is h11.PAUSED
    assert real.trailing_data == begun.trailing_data


def test_bytes_behind_the_last_request_are_an_error() -> None:
    for machine in (amid_response("close"), BegunResponse(takes_another=False)):
        machine.receive_data(b"G")
        with pytest.raises(h11.RemoteProtocolError) as caught:
            machine.next_event()
        assert caught.value.error_status_hint == 400
        assert machine.their_state is h11.ERROR
        assert machine.our_state is h11.SEND_BODY
