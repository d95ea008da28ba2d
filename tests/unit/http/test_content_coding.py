"""Compressed bodies, in any split, and those that are no such bodies."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.http.client_errors import BadResponse
from llmactors.http.content_coding import BodyDecoder
from tests.support.splits import splits

TEXT = b"data: {}\n\n" * 40


def decoded(decoder: BodyDecoder, pieces: list[bytes]) -> bytes:
    found = b""
    for piece in pieces:
        found += decoder.feed(piece)
        while decoder.holds_more:
            found += decoder.feed(b"")
    return found


@given(st.sampled_from([gzip.compress(TEXT), zlib.compress(TEXT)]), st.lists(st.integers(0, 500), max_size=9))
def test_body_is_the_same_in_any_split(raw: bytes, cuts: list[int]) -> None:
    decoder = BodyDecoder()
    assert decoded(decoder, [*splits(raw, cuts), b"more"]) == TEXT
    assert decoder.is_whole
    decoder.feed_eof()


def test_cut_body_is_an_error() -> None:
    decoder = BodyDecoder()
    decoder.feed_eof()
    decoder.feed(gzip.compress(TEXT)[:-1])
    with pytest.raises(BadResponse, match="in the middle"):
        decoder.feed_eof()


def test_small_body_never_becomes_a_large_piece() -> None:
    decoder = BodyDecoder()
    assert len(decoder.feed(gzip.compress(bytes(10_000_000)))) == 262_144
    assert decoder.holds_more
    assert not decoder.is_whole


def test_data_of_another_format_is_refused() -> None:
    with pytest.raises(BadResponse):
        BodyDecoder().feed(b"data: {}\n\n")
