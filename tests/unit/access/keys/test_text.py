"""The text of a key: its parts, the checks that need no store, and its comparison."""

import hmac
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.access.keys.text import Credential, Digest, base62, new_key, read_key

KEY = new_key()


def test_key_is_prefix_id_secret_and_checksum() -> None:
    assert re.fullmatch(r"lla_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", KEY.text)
    assert KEY.text.split("_")[1] == KEY.id
    assert 62**43 > 2**256 > 62**42


def test_two_new_keys_are_never_equal() -> None:
    keys = [new_key() for _ in range(200)]
    assert len({key.id for key in keys}) == len({key.text.split("_")[2] for key in keys}) == 200


def test_new_secret_keeps_the_id_of_the_key() -> None:
    again = new_key(KEY.id)
    assert again.id == KEY.id
    assert again.digest != KEY.digest


def test_new_key_can_be_read() -> None:
    assert read_key(KEY.text.encode()) == Credential(KEY.id, KEY.digest)


@given(st.integers(0, len(KEY.text) - 1), st.sampled_from(string.printable))
def test_key_with_one_changed_letter_is_refused(place: int, letter: str) -> None:
    changed = KEY.text[:place] + letter + KEY.text[place + 1 :]
    assert (read_key(changed.encode()) is not None) == (changed == KEY.text)


@given(st.binary(max_size=100) | st.integers(0, len(KEY.text) - 1).map(lambda end: KEY.text[:end].encode()))
def test_junk_and_half_a_key_are_refused(text: bytes) -> None:
    assert read_key(text) is None


@pytest.mark.parametrize(
    "text",
    [f"{KEY.text}\n", f" {KEY.text}", f"{KEY.text}_", KEY.text.swapcase(), ""],
    ids=["line", "space", "more", "case", "empty"],
)
def test_text_that_resembles_a_key_is_refused(text: str) -> None:
    assert read_key(text.encode()) is None


@given(st.integers(0, 2**256 - 1))
def test_base_62_is_reversible(number: int) -> None:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    assert sum(digits.index(digit) * 62**place for place, digit in enumerate(reversed(base62(number, 43)))) == number


def test_repr_shows_no_secret() -> None:
    secret = KEY.text.split("_")[2]
    assert secret not in f"{KEY!r} {KEY} {read_key(KEY.text.encode())!r}"
    assert KEY.digest.sha256 not in repr(read_key(KEY.text.encode()))


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comparison of two digests by `==`, `!=` or `in` uses hmac."""
    compared = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def noting(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    first, second = Digest.of(b"a"), Digest.of(b"b" * 1000)
    assert first != second
    assert first not in (second, second)
    assert Credential("x", first) != Credential("x", second)
    assert compared == [(64, 64)] * 4
    assert first != "no digest"
