"""Which pages may open a WebSocket."""

import pytest

from llmactors.access.origins import check_origin
from llmactors.errors import Forbidden

HOST = "llm.example.com:8000"


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, HOST, ()),
        (None, None, ()),
        ("http://llm.example.com:8000", HOST, ()),
        ("https://LLM.example.com", "llm.example.com", ()),
        ("http://[::1]:8000", "[::1]:8000", ()),
        ("https://app.example.com", HOST, ("https://app.example.com",)),
        ("https://App.example.com", HOST, ("https://other.example.com", "https://app.Example.com")),
        ("http://llm.example.com:8000", HOST, ("https://app.example.com",)),
        ("null", HOST, ("*",)),
        ("https://anywhere.example", None, ("*",)),
    ],
)
def test_same_host_and_listed_origins_are_admitted(
    origin: str | None, host: str | None, allowed: tuple[str, ...]
) -> None:
    check_origin(origin, host, allowed)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://evil.example", HOST, ()),
        ("http://llm.example.com", HOST, ()),
        ("http://llm.example.com:8001", HOST, ()),
        ("http://llm.example.com:8000.evil.example", HOST, ()),
        ("http://evil.example/llm.example.com:8000", HOST, ()),
        ("http://evil@llm.example.com:8000", HOST, ()),
        ("llm.example.com:8000", HOST, ()),
        ("file://llm.example.com:8000", HOST, ()),
        ("null", HOST, ("https://app.example.com",)),
        ("", HOST, ()),
        ("http://app.example.com", HOST, ("https://app.example.com",)),
        ("https://app.example.com.evil.example", HOST, ("https://app.example.com",)),
        ("https://anywhere.example", None, ()),
    ],
)
def test_other_origins_are_refused(origin: str, host: str | None, allowed: tuple[str, ...]) -> None:
    with pytest.raises(Forbidden, match="allowed_origins"):
        check_origin(origin, host, allowed)
