"""What is believed of the headers that proxies add."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.http.forwarded import MAX_HOPS, TrustedProxies, Via

PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])
XFF, FORWARDED = b"x-forwarded-for", b"forwarded"


def client(*headers: tuple[bytes, bytes], peer: str = "127.0.0.1") -> str:
    via = PROXIES.via(peer, headers)
    assert via is not None
    return via.client


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("10.20.30.40", True),
        ("2001:db8::7", True),
        ("2001:db8::7%eth0", True),
        ("127.0.0.2", False),
        ("192.0.2.1", False),
        ("2001:db9::1", False),
        ("local", False),
        ("", False),
    ],
)
def test_only_listed_proxies_are_trusted(address: str, trusted: bool) -> None:
    assert PROXIES.has(address) is trusted
    assert (PROXIES.via(address, [(XFF, b"192.0.2.9")]) is not None) is trusted


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert TrustedProxies().via("127.0.0.1", [(XFF, b"192.0.2.9")]) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"192.0.2.9", "192.0.2.9"),
        (b" 192.0.2.9 ", "192.0.2.9"),
        (b"192.0.2.9:4711", "192.0.2.9"),
        (b"2001:db9::9", "2001:db9::9"),
        (b"[2001:db9::9]:4711", "2001:db9::9"),
        (b"::ffff:192.0.2.9", "192.0.2.9"),
        # What a client writes itself stands before what its proxy adds.
        (b"203.0.113.5, 192.0.2.9", "192.0.2.9"),
        (b"127.0.0.1, 192.0.2.9", "192.0.2.9"),
        (b"203.0.113.5, 192.0.2.9, 10.1.1.1", "192.0.2.9"),
        (b"10.1.1.2, 10.1.1.1", "10.1.1.2"),
        (b"192.0.2.9, unknown", "127.0.0.1"),
        (b"192.0.2.9, , 10.1.1.1", "10.1.1.1"),
        (b"nonsense", "127.0.0.1"),
        (b"", "127.0.0.1"),
        (b"\xff\xfe", "127.0.0.1"),
    ],
)
def test_client_is_the_last_address_that_is_no_proxy(value: bytes, found: str) -> None:
    assert client((XFF, value)) == found


def test_several_headers_are_one_list() -> None:
    assert client((XFF, b"203.0.113.5"), (b"X-Forwarded-For", b"192.0.2.9"), (XFF, b"10.1.1.1")) == "192.0.2.9"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"for=192.0.2.9", "192.0.2.9"),
        (b'For="192.0.2.9:80";proto=https;by=10.1.1.1', "192.0.2.9"),
        (b'for="[2001:db9::9]:4711"', "2001:db9::9"),
        (b"for=203.0.113.5, for=192.0.2.9;host=a, for=10.1.1.1", "192.0.2.9"),
        (b"for=192.0.2.9, for=_hidden", "127.0.0.1"),
        (b"for=192.0.2.9, proto=https", "127.0.0.1"),
        (b"proto=https", "127.0.0.1"),
        (b";;=;=,", "127.0.0.1"),
    ],
)
def test_forwarded_header_is_read_as_well(value: bytes, found: str) -> None:
    assert client((FORWARDED, value)) == found


def test_headers_that_contradict_each_other_are_not_believed() -> None:
    assert client((XFF, b"192.0.2.9"), (FORWARDED, b"for=198.51.100.1")) == "127.0.0.1"
    assert client((XFF, b"192.0.2.9"), (FORWARDED, b"for=192.0.2.9")) == "192.0.2.9"
    assert client((XFF, b"192.0.2.9"), (FORWARDED, b"proto=https")) == "192.0.2.9"


def test_host_that_the_client_named_is_found() -> None:
    assert PROXIES.via("127.0.0.1", [(b"x-forwarded-host", b"evil.example, llm.example.com")]) == Via(
        "127.0.0.1", "llm.example.com"
    )
    assert PROXIES.via("127.0.0.1", [(FORWARDED, b'for=192.0.2.9;host="llm.example.com"')]) == Via(
        "192.0.2.9", "llm.example.com"
    )
    assert PROXIES.via("127.0.0.1", []) == Via("127.0.0.1")


def test_number_of_proxies_in_a_row_is_bounded() -> None:
    addresses = ["192.0.2.9", *["10.1.1.1"] * MAX_HOPS]
    assert client((XFF, ", ".join(addresses).encode())) == "10.1.1.1"
    assert client((XFF, ", ".join(addresses[:-1]).encode())) == "192.0.2.9"


@given(st.lists(st.tuples(st.sampled_from([XFF, FORWARDED, b"x-forwarded-host"]), st.binary(max_size=60))))
def test_any_bytes_give_some_client(headers: list[tuple[bytes, bytes]]) -> None:
    assert client(*headers)
