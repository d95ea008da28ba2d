"""Decodes response bodies that a proxy has compressed without being asked. Pure.

Some proxies compress whatever passes through them. gzip (RFC 1952) and deflate (RFC 1950) are read.
"""

import zlib

from llmactors.http.client_errors import BadResponse

CODINGS = ("gzip", "x-gzip", "deflate")
_WINDOW_BITS = 32 + zlib.MAX_WBITS
"""zlib tells the two formats apart by their first bytes."""
_MAX_PIECE_BYTES = 262_144


class BodyDecoder:
    """The decoder of one body. Feed it the bytes of the body in their order."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(_WINDOW_BITS)
        self._begun = False

    def __repr__(self) -> str:
        return f"<BodyDecoder holds={len(self._decompressor.unconsumed_tail)} whole={self.is_whole}>"

    @property
    def holds_more(self) -> bool:
        """Whether `feed(b"")` may have bytes to give."""
        return not self.is_whole and bool(self._decompressor.unconsumed_tail)

    @property
    def is_whole(self) -> bool:
        """Whether the compressed data has come to its end."""
        return self._decompressor.eof

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes, and returns what they decode to, at most 256 KiB at once. Raises `BadResponse`.

        What comes behind the end of the compressed data is dropped.
        """
        if self.is_whole:
            return b""
        self._begun = True
        try:
            return self._decompressor.decompress(self._decompressor.unconsumed_tail + data, _MAX_PIECE_BYTES)
        except zlib.error as error:
            raise BadResponse(f"the response's body is no valid compressed data: {error}") from error

    def feed_eof(self) -> None:
        """Takes the end of the body. Raises `BadResponse` in the middle of compressed data."""
        if self._begun and not self.is_whole:
            raise BadResponse("the response's body ends in the middle of its compressed data")
