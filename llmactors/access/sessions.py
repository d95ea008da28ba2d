"""Sessions of operators in browsers.

A cookie holds a random token, and the node keeps the credential of the token's owner under the digest of the token. A
session ends after `LIFE_S` seconds, when its owner ends it, and with the owner's key: each request of a session asks
whether the key is still good.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from llmactors.access.keys.text import Credential, Digest, base62
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

COOKIE = "llmactors_session"
LIFE_S = 43_200.0
MAX_SESSIONS = 1000
"""The most sessions of a single process. Beyond this number, the session that began first ends."""
_PREFIX = "lls"
_TOKEN = re.compile(rf"{_PREFIX}_[0-9A-Za-z]{{43}}")


class Sessions(Protocol):
    """Begins, finds and ends sessions. Each method raises `errors.Unavailable` while the store of sessions is away."""

    async def begin(self, credential: Credential | None) -> str:
        """The token of a new session of the operator with this credential."""
        ...

    async def find(self, token: str) -> Credential | None:
        """The credential of the session's owner; None where the session has ended or never began."""
        ...

    async def end(self, token: str) -> None:
        """Ends the session. Does nothing where there is none."""
        ...


class MemorySessions:
    """The sessions of a single process."""

    def __init__(self, *, max_sessions: int = MAX_SESSIONS, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_sessions = max_sessions
        self._clock = clock
        self._open: OrderedDict[Digest, tuple[float, Credential | None]] = OrderedDict()
        """The end and the credential of each session, oldest first."""

    def __repr__(self) -> str:
        return f"<MemorySessions {len(self._open)} open>"

    async def begin(self, credential: Credential | None) -> str:
        """The token of a new session."""
        token = new_session()
        self._open[_digest(token)] = (self._clock() + LIFE_S, credential)
        if len(self._open) > self._max_sessions:
            self._open.popitem(last=False)
        return token

    async def find(self, token: str) -> Credential | None:
        """The credential of the session's owner."""
        until, credential = self._open.get(_digest(token), (0.0, None))
        return credential if self._clock() < until else None

    async def end(self, token: str) -> None:
        """Ends the session."""
        self._open.pop(_digest(token), None)


class RedisSessions:
    """The sessions of a cluster. Whichever gateway began a session, all of its gateways accept the session."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<RedisSessions of {self._names.namespace}>"

    async def begin(self, credential: Credential | None) -> str:
        """The token of a new session."""
        token = new_session()
        await self._call("SET", self._key(token), msgspec.json.encode(credential), "PX", round(LIFE_S * 1000))
        return token

    async def find(self, token: str) -> Credential | None:
        """The credential of the session's owner."""
        data = await self._call("GET", self._key(token))
        return None if data is None else msgspec.json.decode(bytes(data), type=Credential | None)

    async def end(self, token: str) -> None:
        """Ends the session."""
        await self._call("DEL", self._key(token))

    def _key(self, token: str) -> str:
        return self._names.session(_digest(token).sha256)


def is_session(text: str) -> bool:
    """Whether the text has the form of a session's token."""
    return _TOKEN.fullmatch(text) is not None


def new_session() -> str:
    """A new token of 256 random bits."""
    return f"{_PREFIX}_{base62(int.from_bytes(secrets.token_bytes(32)), 43)}"


def _digest(token: str) -> Digest:
    return Digest.of(token.encode())
