"""Tickets: what opens one WebSocket for a browser, which cannot send headers with a handshake.

A ticket stands in a URL, and URLs stand in logs and histories: so it opens one socket once, and soon or never. What it
stands for is stored under its digest.
"""

import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from llmactors.access.keys.text import Credential, Digest, base62
from llmactors.errors import Overloaded
from llmactors.redislink import Call
from llmactors.redislink.names import RedisNames

PREFIX = "llt"
LIFE_S = 30.0
MAX_TICKETS = 10_000
MAX_OF_ONE = 1000
"""So that a key whose holder asks for tickets and opens nothing leaves the others some."""
_TICKET = re.compile(rf"{PREFIX}_[0-9A-Za-z]{{43}}")


class Tickets(Protocol):
    """Raises `errors.Unavailable` where nobody can tell at the moment."""

    async def issue(self, credential: Credential | None) -> str:
        """A ticket for whoever showed this; None where nothing was asked for."""
        ...

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """What it was issued for, in a tuple; None if it was used before, is too old, or never was."""
        ...


class MemoryTickets:
    """Of one process."""

    def __init__(
        self,
        *,
        max_tickets: int = MAX_TICKETS,
        max_of_one: int = MAX_OF_ONE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_tickets = max_tickets
        self._max_of_one = max_of_one
        self._clock = clock
        self._issued: OrderedDict[Digest, tuple[float, Credential | None]] = OrderedDict()
        """Until when each is good, the oldest first."""
        self._open_of: Counter[str] = Counter()
        """How many are open of each key of a store, by its id."""

    def __repr__(self) -> str:
        return f"<MemoryTickets {len(self._issued)} open>"

    async def issue(self, credential: Credential | None) -> str:
        """A ticket for whoever showed this. Raises `Overloaded` where too many are open."""
        now = self._clock()
        while self._issued and next(iter(self._issued.values()))[0] <= now:
            self._take(next(iter(self._issued)))
        holder = _holder(credential)
        if len(self._issued) >= self._max_tickets or (holder and self._open_of[holder] >= self._max_of_one):
            raise Overloaded("too many tickets are open; try again in a moment", retry_after_s=1.0)
        ticket = new_ticket()
        self._issued[Digest.of(ticket.encode())] = (now + LIFE_S, credential)
        self._open_of[holder] += 1
        return ticket

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """What it was issued for."""
        until, credential = self._take(Digest.of(ticket.encode()))
        return (credential,) if self._clock() < until else None

    def _take(self, digest: Digest) -> tuple[float, Credential | None]:
        if digest not in self._issued:
            return 0.0, None
        until, credential = self._issued.pop(digest)
        holder = _holder(credential)
        self._open_of[holder] -= 1
        if not self._open_of[holder]:
            del self._open_of[holder]
        return until, credential


class RedisTickets:
    """Of a cluster: whichever gateway issued it, it opens one socket, at any of them."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<RedisTickets of {self._names.namespace}>"

    async def issue(self, credential: Credential | None) -> str:
        """A ticket for whoever showed this."""
        ticket = new_ticket()
        await self._call("SET", self._key(ticket), msgspec.json.encode(credential), "PX", round(LIFE_S * 1000))
        return ticket

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """What it was issued for."""
        data = await self._call("GETDEL", self._key(ticket))
        return None if data is None else (msgspec.json.decode(bytes(data), type=Credential | None),)

    def _key(self, ticket: str) -> str:
        return self._names.ticket(Digest.of(ticket.encode()).sha256)


def _holder(credential: Credential | None) -> str:
    """Empty also for the node's single key, which all its callers share."""
    return "" if credential is None else credential.key_id


def is_ticket(text: str) -> bool:
    """Whether it looks like one."""
    return _TICKET.fullmatch(text) is not None


def new_ticket() -> str:
    """256 bits that nobody can guess."""
    return f"{PREFIX}_{base62(int.from_bytes(secrets.token_bytes(32)), 43)}"
