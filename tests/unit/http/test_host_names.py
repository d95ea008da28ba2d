"""A text that cannot be the name of a host is refused where a setting or a URL names it."""

import pytest

from llmactors.errors import ConfigError
from llmactors.http.address import parse_address
from llmactors.http.client_socket import Origin
from llmactors.redislink.address import parse_address as parse_redis

IMPOSSIBLE = ("a..b", ".a", "x" * 64, "x" * 300, "a.\0.b")


@pytest.mark.parametrize("host", IMPOSSIBLE)
def test_impossible_host_is_refused_wherever_it_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match="`bind` must be HOST:PORT"):
        parse_address(f"{host}:8000", name="bind")
    with pytest.raises(ValueError, match=r"cannot be the name of a host|is no URL|netloc|Invalid"):
        Origin.parse(f"http://{host}:8000")
    with pytest.raises(ConfigError, match=r"host:port|control character"):
        parse_redis(f"redis://{host}:6379")


@pytest.mark.parametrize("text", ["[::1:0", "::1]:0", "[[::1]]:0", "[]]:0"])
def test_unpaired_brackets_of_an_address_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be HOST:PORT"):
        parse_address(text, name="bind")


def test_possible_hosts_are_accepted() -> None:
    assert parse_address("[::1]:80", name="bind") == ("::1", 80)
    assert parse_address("::1:80", name="bind") == ("::1", 80)
    assert parse_address(":80", name="bind") == ("0.0.0.0", 80)
    assert parse_address("müller.example.:80", name="bind") == ("müller.example.", 80)
    assert Origin.parse("http://node.example.:80").host == "node.example."
