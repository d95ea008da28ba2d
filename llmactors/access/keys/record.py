"""What is stored of a key. Pure: `now` is an argument; all times are in seconds since 1970."""

import enum
import math
import re

import attrs
import msgspec

from llmactors.access.keys.text import Credential, Digest, NewKey
from llmactors.errors import ConfigError
from llmactors.limiter.limits import Limits

_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME_CHARS = 64
_LOWEST_CLASS = 2
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1000.0
"""With a weight near 0, one request would cost more virtual time than a float holds exactly."""

RESERVED_TENANTS = frozenset({"anonymous", "key"})
"""The tenants of requests without a key, and of requests with the node's single key."""


class KeyStatus(enum.Enum):
    """The status of a key or of a secret."""

    GOOD = "active"
    WRONG = "wrong"
    EXPIRED = "expired"
    REVOKED = "revoked"


@attrs.frozen
class FormerSecret:
    """A secret that was replaced by a rotation, and is good until `until`."""

    hash: Digest
    until: float


@attrs.frozen(kw_only=True)
class KeyRecord:
    """The record of one key.

    Raises:
        ConfigError: A field is out of range. The message names the field.
    """

    id: str
    tenant: str
    """The owner of the key's requests. Keys of one tenant see each other's streams, and share their limits."""
    hash: Digest
    created: float
    name: str = ""
    """A name for the operator."""
    expires: float | None = None
    revoked: float | None = None
    former: tuple[FormerSecret, ...] = ()
    models: frozenset[str] | None = None
    """The models that the key may use; None for all."""
    best_priority: int = 1
    """The best priority class that the key may ask for; 0 is served first."""
    weight: float = 1.0
    """The tenant's share of its priority class."""
    limits: Limits = attrs.field(factory=Limits)
    operator: bool = False
    """Whether the key opens the routes for operators."""

    def __attrs_post_init__(self) -> None:
        if not _TENANT.fullmatch(self.tenant):
            raise ConfigError(
                f"`tenant` must be 1 to 64 letters, digits, dots, dashes or underscores, not {self.tenant!r}"
            )
        if self.tenant in RESERVED_TENANTS:
            raise ConfigError(
                f"`tenant` {self.tenant!r} is reserved for callers without a key of their own: choose another name"
            )
        if len(self.name) > _NAME_CHARS or not (self.name.isprintable()):
            raise ConfigError(f"`name` must have at most {_NAME_CHARS} characters, all of them printable")
        if not 0 <= self.best_priority <= _LOWEST_CLASS:
            raise ConfigError(f"`priority` must be 0 to {_LOWEST_CLASS}, not {self.best_priority}")
        if not _LEAST_WEIGHT <= self.weight <= _MOST_WEIGHT:
            raise ConfigError(f"`weight` must be {_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}, not {self.weight:g}")
        if self.models is not None and not (self.models and all(self.models)):
            raise ConfigError("`models` is empty: name at least one, or leave it out to allow all")

    def judge(self, credential: Credential, now: float) -> KeyStatus:
        """The status of a secret for this key now. All secrets of the key are compared, each in constant time."""
        current = credential.digest == self.hash
        former = [now < secret.until and credential.digest == secret.hash for secret in self.former]
        if not (current or any(former)):
            return KeyStatus.WRONG
        return self.state(now)

    def state(self, now: float) -> KeyStatus:
        """The status of the right secret now."""
        if self.revoked is not None:
            return KeyStatus.REVOKED
        if self.expires is not None and self.expires <= now:
            return KeyStatus.EXPIRED
        return KeyStatus.GOOD

    def next_end(self, now: float) -> float:
        """The next time at which a secret of the key ends by itself; `inf` if no secret does."""
        ends = [secret.until for secret in self.former]
        if self.expires is not None:
            ends.append(self.expires)
        return min((end for end in ends if end > now), default=math.inf)

    def revoke(self, now: float) -> "KeyRecord":
        """The record after a revocation, which is final. A second revocation changes nothing."""
        return self if self.revoked is not None else attrs.evolve(self, revoked=now)

    def rotate(self, key: NewKey, now: float, overlap_s: float) -> "KeyRecord":
        """The record with the secret of `key`. The secrets before stay good for at most `overlap_s` seconds."""
        until = now + overlap_s
        former = [attrs.evolve(secret, until=min(secret.until, until)) for secret in self.former]
        former.append(FormerSecret(self.hash, until))
        return attrs.evolve(self, hash=key.digest, former=tuple(secret for secret in former if secret.until > now))

    def encode(self) -> bytes:
        """The record as JSON."""
        return msgspec.json.encode(self, order="deterministic")


def decode_record(data: bytes) -> KeyRecord:
    """Decodes a record. Raises `ConfigError` for anything else."""
    try:
        return msgspec.json.decode(data, type=KeyRecord)
    except msgspec.DecodeError as error:
        raise ConfigError(f"not the record of a key: {error}") from error
