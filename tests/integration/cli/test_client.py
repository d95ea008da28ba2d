"""The commands' client of a node: resumed streams, errors, and the environment."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmactors.cli import client as client_module
from llmactors.cli import run
from llmactors.cli.client import explain, get_json
from llmactors.errors import NotFound, Unavailable
from llmactors.http.client import ClientSettings
from tests.support.canned_answers import chunked, native_events, sized
from tests.support.canned_server import Asked, CannedServer, Cut, Wait

pytestmark = pytest.mark.integration

Script = Iterator[bytes | Wait | Cut]
EVENTS = native_events("a", 1, 5)
TEXT = "".join(json.loads(event.split(b"data: ")[1])["text"] for event in EVENTS[:-1])


def test_cut_stream_is_resumed_after_its_last_event(capsys: pytest.CaptureFixture[str]) -> None:
    def script(asked: Asked) -> Script:
        if asked.number == 0:
            begun = chunked(EVENTS[:2]).removesuffix(b"0\r\n\r\n")
            yield begun.replace(b"\r\n\r\n", b"\r\nX-Request-Id: req_1\r\n\r\n", 1)
            yield Cut()
        yield chunked(EVENTS[2:])

    with CannedServer(script) as server:
        assert run(["generate", "a", "--url", server.url]) == 0
    assert capsys.readouterr().out == f"{TEXT}\n"
    begun, resumed = server.asked
    assert json.loads(begun.body)["stream"] is True
    assert resumed.head.startswith("GET /v1/streams/req_1 HTTP/1.1")
    assert "\r\nLast-Event-ID: 2" in resumed.head


def test_refused_stream_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    def script(_: Asked) -> Script:
        yield sized(b'{"error":{"code":"OVERLOADED","message":"the queue is full"}}', status="429 No")

    with CannedServer(script) as server:
        assert run(["generate", "a", "--url", server.url]) == 1
    assert capsys.readouterr().err == "llmactors: the queue is full\n"


def test_error_answers_are_raised_as_their_errors() -> None:
    answers = [
        sized(b'{"error":{"code":"NOT_FOUND","message":"gone"}}', status="404 Not Found"),
        sized(b"<html>", status="502 Bad Gateway"),
        sized(b"no JSON"),
    ]

    def script(asked: Asked) -> Script:
        yield answers[asked.number]

    with CannedServer(script) as server:
        with pytest.raises(NotFound, match="gone"):
            get_json(server.url, "/v1/tree", "key")
        with pytest.raises(Unavailable, match="answered with status 502"):
            get_json(server.url, "/v1/tree", None)
        with pytest.raises(Unavailable, match="no JSON"):
            get_json(server.url, "/v1/tree", None)
    assert "\r\nAuthorization: Bearer key" in server.asked[0].head


def test_malformed_url_is_named() -> None:
    with pytest.raises(Unavailable, match="is not a URL of a node"):
        get_json("ftp://127.0.0.1", "/v1/tree", None)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    monkeypatch.setenv("no_proxy", "inside.example")


def test_loopback_ignores_the_environment(environment: None) -> None:
    def script(_: Asked) -> Script:
        yield sized(b'{"up":true}')

    with CannedServer(script) as server:
        assert get_json(server.url, "/", None) == {"up": True}
        assert get_json(server.url.replace("127.0.0.1", "localhost"), "/", None) == {"up": True}


def test_remote_node_uses_proxy_and_authorities(
    environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    through = ClientSettings(connect_s=10.0, proxy="http://127.0.0.1:9", ca_file=str(authorities))
    assert client_module._settings("https://node.example/") == through
    assert client_module._settings("https://inside.example/").proxy == ""


def test_unknown_route_of_openais_api_is_not_found() -> None:
    body = (
        b'{"error":{"message":"there is no such route","type":"invalid_request_error","param":null,"code":"not_found"}}'
    )
    assert isinstance(explain("http://node", 404, body), NotFound)
    assert isinstance(explain("http://node", 404, b'{"error":{"message":"m","code":null}}'), Unavailable)
