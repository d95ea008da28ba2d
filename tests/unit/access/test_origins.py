"""Which web pages may send a request that changes something, or open a WebSocket."""

import pytest

from llmactors.access.origins import changes_state, check_origin
from llmactors.errors import Forbidden

HOST = "llm.example.com:8000"
APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("origin", "site", "host", "allowed"),
    [
        (None, None, HOST, ()),
        (None, None, None, ()),
        (None, "none", HOST, ()),
        ("http://llm.example.com:8000", None, HOST, ()),
        ("http://llm.example.com:8000", "none", HOST, ()),
        ("http://llm.example.com:8000", "same-origin", HOST, ()),
        ("https://LLM.example.com", None, "llm.example.com", ()),
        ("https://llm.example.com", None, "llm.example.com:443", ()),
        ("http://llm.example.com:80", None, "llm.example.com", ()),
        ("http://[::1]:8000", None, "[::1]:8000", ()),
        # A proxy that ends TLS has replaced `Host` by the node's own address.
        ("https://llm.example.com", "same-origin", "127.0.0.1:8000", ()),
        (APP, None, HOST, (APP,)),
        (APP, "cross-site", HOST, (APP,)),
        (APP, "same-site", HOST, (APP,)),
        ("https://App.example.com", None, HOST, ("https://other.example.com", "https://app.Example.com")),
        ("http://llm.example.com:8000", None, HOST, (APP,)),
        ("https://app.example.com", None, HOST, ("https://app.example.com:443",)),
        ("http://app.example.com", None, HOST, ("http://APP.example.com:80",)),
        ("chrome-extension://abcdef", "none", HOST, ("chrome-extension://abcdef",)),
        ("null", None, HOST, ("null",)),
        ("null", "cross-site", HOST, ("*",)),
        (None, "cross-site", HOST, ("*",)),
        ("https://anywhere.example", None, None, ("*",)),
    ],
)
def test_own_pages_and_listed_origins_are_admitted(
    origin: str | None, site: str | None, host: str | None, allowed: tuple[str, ...]
) -> None:
    check_origin(origin, site, [] if host is None else [host], allowed)


@pytest.mark.parametrize(
    ("origin", "site", "host", "allowed"),
    [
        ("https://evil.example", None, HOST, ()),
        ("https://evil.example", "cross-site", HOST, ()),
        ("https://evil.example", "none", HOST, ()),
        ("https://evil.example", "", HOST, ()),
        (None, "cross-site", HOST, ()),
        (None, "same-site", HOST, ()),
        (None, "cross-site", HOST, (APP,)),
        # Another port of the same machine is another page of the same site.
        ("http://llm.example.com:3000", "same-site", HOST, ()),
        ("http://localhost:3000", "same-site", "localhost:8000", ()),
        ("http://localhost:3000", None, "localhost:8000", ()),
        ("http://llm.example.com:8000", "cross-site", HOST, ()),
        ("http://llm.example.com", None, HOST, ()),
        ("http://llm.example.com:8001", None, HOST, ()),
        ("http://llm.example.com:8000.evil.example", None, HOST, ()),
        ("http://evil.example/llm.example.com:8000", None, HOST, ()),
        ("http://evil@llm.example.com:8000", None, HOST, ()),
        ("llm.example.com:8000", None, HOST, ()),
        ("file://llm.example.com:8000", None, HOST, ()),
        ("null", None, HOST, (APP,)),
        ("null", None, "null", ()),
        ("", None, HOST, ()),
        ("", None, "", ()),
        ("http://", None, "", ()),
        ("http://app.example.com", None, HOST, (APP,)),
        ("http://app.example.com:443", None, HOST, (APP,)),
        ("https://app.example.com", None, HOST, ("https://app.example.com:80",)),
        (f"{APP}.evil.example", None, HOST, (APP,)),
        (f"{APP}, https://evil.example", None, HOST, (APP,)),
        ("https://anywhere.example", None, None, ()),
    ],
)
def test_other_origins_are_refused(
    origin: str | None, site: str | None, host: str | None, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(Forbidden, match="allowed_origins"):
        check_origin(origin, site, [] if host is None else [host], allowed)


def test_origin_may_be_any_host_the_client_has_named() -> None:
    check_origin("https://llm.example.com", None, ["gateway:8000", "llm.example.com"], ())


def test_only_reading_methods_change_nothing() -> None:
    assert not any(map(changes_state, ("GET", "HEAD", "OPTIONS")))
    assert all(map(changes_state, ("POST", "DELETE", "PUT", "PATCH", "get", "ANY")))
