"""Redis URLs: what each part means. No error message shows the password."""

import ssl

import pytest

from llmactors.errors import ConfigError
from llmactors.redislink.address import Endpoint, parse_address
from llmactors.redislink.link import RedisLink


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379"),
        ("redis://h:7000/3", "redis://h:7000"),
        ("redis://user:s3cret@h", "redis://h:6379"),
        ("redis://:s3cret@[::1]:7000", "redis://[::1]:7000"),
        ("rediss://h", "rediss://h:6379"),
        ("unix://u:s3cret@/run/redis.sock?db=2", "unix:///run/redis.sock"),
        ("sentinel://:s3cret@a:1,b,[::1]:3/main?db=2", "sentinel://a:1,b:26379,[::1]:3/main"),
    ],
)
def test_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = parse_address(url)
    assert str(address) == shown
    assert "s3cret" not in repr(address)
    assert "s3cret" not in repr(RedisLink(url))


def test_parts_of_a_url_are_decoded() -> None:
    address = parse_address("redis://us%40er:p%2Fa%40ss@h:1/7")
    assert (address.username, address.password, address.db, address.endpoint) == (
        "us@er",
        "p/a@ss",
        7,
        Endpoint("h", 1),
    )


def test_sentinel_url_has_a_login_for_sentinels() -> None:
    address = parse_address("sentinel://u:p@a,b:2/my%20main?sentinel_password=q&db=1&ssl=true")
    assert address.sentinels == (Endpoint("a", 26379), Endpoint("b", 2))
    assert (address.service, address.username, address.password, address.db) == ("my main", "u", "p", 1)
    assert address.sentinel_password == "q"
    assert address.tls is not None


def test_tls_verifies_certificate_and_name_by_default() -> None:
    strict = parse_address("rediss://h").tls
    assert strict is not None
    assert strict.check_hostname
    assert strict.verify_mode is ssl.CERT_REQUIRED
    nameless = parse_address("rediss://h?ssl_check_hostname=false").tls
    assert nameless is not None
    assert not nameless.check_hostname
    assert nameless.verify_mode is ssl.CERT_REQUIRED
    lax = parse_address("rediss://h?ssl_cert_reqs=none").tls
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with"),
        ("s3cret", "must begin with"),
        ("http://:s3cret@h", "must begin with"),
        ("redis:/:s3cret@h", "must begin with"),
        ("redis://:s3cret/x@h", "percent-encoded"),
        ("redis://:s3cret#x@h", "%23"),
        ("redis://:s3cret x@h", "percent-encode"),
        ("redis://:s3cret@h:port", "host:port"),
        ("redis://:s3cret@h:99999", "host:port"),
        ("redis://:s3cret@h:0", "valid port"),
        ("redis://:s3cret@h:", "valid port"),
        ("redis://:s3cret@[::1", "host:port"),
        ("redis://:s3cret@h/main", "number of a database"),
        ("redis://:s3cret@h?db=x", "option `db`"),
        ("redis://:s3cret@h?db=-1", "negative"),
        ("redis://:s3cret@h?db=1&db=2", "twice"),
        ("redis://:s3cret@h?sll_ca=1", "unknown option `sll_ca`"),
        ("redis://:s3cret@h?ssl_ca_certs=/x", "needs rediss"),
        ("redis://s3cret@h", "without a password"),
        ("rediss://:s3cret@h?ssl_ca_certs=/does/not/exist", "cannot be used: No such file"),
        ("rediss://:s3cret@h?ssl_cert_reqs=maybe", "required or none"),
        ("rediss://:s3cret@h?ssl_min_version=7", "cannot be used"),
        ("rediss://:s3cret@h?ssl_ciphers=nothing", "cannot be used"),
        ("unix://:s3cret@", "no path"),
        ("sentinel://:s3cret@a,b", "service's name"),
        ("sentinel://:s3cret@a/b/c", "service's name"),
        ("sentinel://:s3cret@a:x/b", "host:port"),
        ("sentinel://:s3cret@a/b?ssl=yes", "true or false"),
    ],
)
def test_error_of_a_bad_url_hides_the_password(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisLink(url)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert "s3cret" not in caught.value.message
    assert caught.value.exit_code == 2
