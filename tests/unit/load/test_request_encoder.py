"""Requests are read with h11 and wsproto, which know nothing of this package."""

import json

import h11
import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import AcceptConnection, Ping, Pong, Request, TextMessage

from llmactors.load.http_recording import HandshakeRecording
from llmactors.load.plan import Api, Plan
from llmactors.load.request_encoder import RequestEncoder
from llmactors.load.socket_recording import masked_pong
from llmactors.load.target import Target

TARGET = Target("127.0.0.1", 8000, "127.0.0.1:8000", "/api")


@pytest.mark.parametrize("api", [api for api in Api if api is not Api.WS])
def test_request_is_http(api: Api) -> None:
    plan = Plan(target=TARGET, api=api, model="m", key="sesame", prompt="grüße", max_tokens=7)
    server = h11.Connection(h11.SERVER)
    server.receive_data(RequestEncoder(plan).request(3))
    head, data = server.next_event(), server.next_event()
    assert isinstance(head, h11.Request)
    assert isinstance(data, h11.Data)
    assert isinstance(server.next_event(), h11.EndOfMessage)
    assert head.target.startswith(b"/api/v1/")
    assert (b"authorization", b"Bearer sesame") in list(head.headers)
    body = json.loads(data.data)
    assert (body["model"], body["seed"], body["max_tokens"]) == ("m", 3, 7)
    assert body["stream"] is (api is not Api.NATIVE_JSON)
    assert (body.get("prompt") or body["messages"][0]["content"]) == "grüße 3"


def opened() -> wsproto.WSConnection:
    wire = RequestEncoder(Plan(target=TARGET, api=Api.WS))
    opening, accept = wire.handshake(5)
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(opening)
    (request,) = server.events()
    assert isinstance(request, Request)
    assert request.target == "/api/v1/ws"
    answer = HandshakeRecording(0, 0.0, accept=accept)
    assert answer.feed(server.send(AcceptConnection()), 1.0)
    assert answer.accepted
    return server


@given(st.text(min_size=1, max_size=70_000), st.integers(0, 10**6))
def test_websocket_request_is_a_masked_text(prompt: str, index: int) -> None:
    if not prompt.strip():
        return
    server = opened()
    server.receive_data(RequestEncoder(Plan(target=TARGET, api=Api.WS, prompt=prompt)).request(index))
    text = "".join(str(event.data) for event in server.events() if isinstance(event, TextMessage))
    assert json.loads(text) == {"op": "generate", "prompt": f"{prompt} {index}", "seed": index, "max_tokens": 64}


def test_ping_is_answered_with_its_payload() -> None:
    server = opened()
    server.send(Ping(payload=b"are you there"))
    server.receive_data(masked_pong(b"are you there", 9))
    assert [bytes(event.payload) for event in server.events() if isinstance(event, Pong)] == [b"are you there"]


def test_wrong_handshake_is_not_accepted() -> None:
    answer = HandshakeRecording(0, 0.0, accept=b"what has to come back")
    assert answer.feed(b"HTTP/1.1 101 \r\nSec-WebSocket-Accept: something else\r\n\r\n", 1.0)
    assert not answer.accepted
