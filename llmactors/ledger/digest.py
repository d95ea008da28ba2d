"""A log's fingerprint, by which two parties find out whether they know the same history."""

import struct
from collections.abc import Iterable
from hashlib import blake2b

from llmactors.messages import TokenDelta

_HEAD = struct.Struct("<qI")


def log_digest(tokens: Iterable[TokenDelta]) -> bytes:
    """BLAKE2b-128 over the log from seq 1.

    Each token goes in as its id (64 bits, signed, little-endian), the length of its text in bytes (32 bits) and the
    text in UTF-8, so that no two logs share an encoding.
    """
    digest = blake2b(digest_size=16)
    for delta in tokens:
        # A model may emit half of a surrogate pair; it has to have a digest too.
        text = delta.text.encode("utf-8", "surrogatepass")
        digest.update(_HEAD.pack(delta.token, len(text)))
        digest.update(text)
    return digest.digest()
