"""Who may call."""

import pytest

from llmactors.errors import Unauthenticated
from llmactors.gateway.auth import Authenticator, Caller

KEY = Authenticator("s3cret")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", b"s3cret")],
        [(b"X-API-Key", b" s3cret ")],
        [(b"authorization", b"Bearer s3cret")],
        [(b"Authorization", b"bearer s3cret")],
        [(b"authorization", b"BEARER   s3cret ")],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", b"s3cret")],
    ],
)
def test_right_key_is_one_tenant_and_one_limit(headers: list[tuple[bytes, bytes]]) -> None:
    assert KEY.identify(headers, "10.0.0.1") == Caller("key", "key")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"s3cret")],
        [(b"authorization", b"Basic s3cret")],
        [(b"cookie", b"x-api-key=s3cret")],
    ],
)
def test_without_a_key_it_says_how_to_send_one(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated, match="X-API-Key"):
        KEY.identify(headers, "10.0.0.1")


@pytest.mark.parametrize(
    "given",
    [b"", b"S3CRET", b"s3cre", b"s3cret2", b"s3cret\xff", "gehéim".encode(), b"\x80\x81"],
)
def test_wrong_key_is_refused_and_not_repeated(given: bytes) -> None:
    with pytest.raises(Unauthenticated) as raised:
        KEY.identify([(b"x-api-key", given)], "10.0.0.1")

    assert "s3c" not in raised.value.message.lower()


def test_key_may_be_any_text() -> None:
    authenticator = Authenticator("gehéim")
    assert authenticator.identify([(b"x-api-key", "gehéim".encode())], "") == Caller("key", "key")


def test_without_a_key_asked_for_callers_differ_by_address() -> None:
    open_to_all = Authenticator(None)
    assert open_to_all.identify([], "10.0.0.1") == Caller("anonymous", "address:10.0.0.1")
    assert open_to_all.identify([(b"x-api-key", b"whatever")], "::1") == Caller("anonymous", "address:::1")


def test_key_is_not_shown() -> None:
    assert "s3cret" not in repr(KEY)
