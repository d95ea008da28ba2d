"""The servers that a load may go to."""

import pytest

from llmactors.errors import ConfigError, Unavailable
from llmactors.load.target import Target


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, ""),
        ("127.0.0.1:8000", "127.0.0.1", 8000, ""),
        ("http://localhost:9/v1/", "127.0.0.1", 9, ""),
        ("http://127.0.0.9/api/v1", "127.0.0.9", 80, "/api"),
        ("http://[::1]:8000/x", "::1", 8000, "/x"),
    ],
)
def test_url_is_read_with_or_without_its_v1(url: str, host: str, port: int, prefix: str) -> None:
    target = Target.parse(url)
    assert (target.host, target.port, target.prefix) == (host, port, prefix)


def test_other_machines_need_allow_remote() -> None:
    with pytest.raises(ConfigError, match=r"not this machine.*--allow-remote"):
        Target.parse("http://192.0.2.1:8000")
    assert Target.parse("http://192.0.2.1:8000", allow_remote=True).host == "192.0.2.1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://127.0.0.1", "not of the form"),
        ("https://127.0.0.1", "TLS"),
        ("http://", "not of the form"),
        ("http://127.0.0.1:port", "not of the form"),
        ("http://127.0.0.1:99999", "not of the form"),
        ("http://127.0.0.1:1?a=b", "not of the form"),
    ],
)
def test_malformed_url_is_refused_by_name(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"`url`.*{says}"):
        Target.parse(url)


def test_unknown_host_is_named() -> None:
    with pytest.raises(Unavailable, match=r"no host nosuch\.invalid"):
        Target.parse("http://nosuch.invalid:1")
