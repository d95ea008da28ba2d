"""The key as its holder has it: `lla_<id>_<secret>_<checksum>`. Pure, but for the randomness.

The id is public and names the key in lists. The secret has 256 bits, so that nobody can try all secrets, and a plain
hash of the key can be stored. With the checksum a typo, half a key or a guess is refused without reading a store, and
scanners can tell a leaked key from a text that only looks like a key.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib

import attrs

PREFIX = "lla"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARS = 12
_SECRET_BYTES = 32
_SECRET_CHARS = 43  # 256 bits in base 62
_CHECKSUM_CHARS = 6  # 32 bits in base 62
_TEXT = re.compile(
    rf"{PREFIX}_(?P<id>[0-9A-Za-z]{{{_ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS}}}_[0-9A-Za-z]{{{_CHECKSUM_CHARS}}}"
)


@attrs.frozen(eq=False)
class Digest:
    """The digest of a secret, which is stored in place of the secret. Comparisons take constant time."""

    sha256: str
    """64 hexadecimal digits."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digest):
            return NotImplemented
        return hmac.compare_digest(self.sha256.encode(), other.sha256.encode())

    def __hash__(self) -> int:
        return hash(self.sha256)

    @staticmethod
    def of(text: bytes) -> "Digest":
        """The digest of any secret."""
        return Digest(hashlib.sha256(text).hexdigest())


@attrs.frozen
class Credential:
    """What a caller sent: the id of a key, and the digest of the whole key."""

    key_id: str
    digest: Digest = attrs.field(repr=False)


@attrs.frozen
class NewKey:
    """A key that was just made. Its text is not stored anywhere."""

    id: str
    text: str = attrs.field(repr=False)

    @property
    def digest(self) -> Digest:
        """The digest to store."""
        return Digest.of(self.text.encode())


def new_key(key_id: str | None = None) -> NewKey:
    """A key with a new secret. Without `key_id` the id is new as well."""
    if key_id is None:
        key_id = "".join(secrets.choice(_DIGITS) for _ in range(_ID_CHARS))
    secret = base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)), _SECRET_CHARS)
    body = f"{PREFIX}_{key_id}_{secret}"
    return NewKey(key_id, f"{body}_{_checksum(body)}")


def read_key(text: bytes) -> Credential | None:
    """The credential of a key; None if the text has not exactly the form of a key with its checksum."""
    try:
        match = _TEXT.fullmatch(text.decode("ascii"))
    except UnicodeDecodeError:
        return None
    if match is None:
        return None
    body, _, checksum = match[0].rpartition("_")
    if checksum != _checksum(body):
        return None
    return Credential(match["id"], Digest.of(text))


def base62(number: int, length: int) -> str:
    """`number` in base 62, with `length` digits: 0 to 9, A to Z, a to z."""
    found = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        found = _DIGITS[digit] + found
    return found


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), _CHECKSUM_CHARS)
