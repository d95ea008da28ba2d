"""Tickets: what opens one WebSocket for a browser, which cannot send headers with a handshake.

A ticket stands in a URL, and URLs stand in logs and histories: so it opens one socket once, and soon or never. What it
stands for is stored under its digest.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from llmactors.errors import Overloaded
from llmactors.keys.text import Credential, Digest, base62
from llmactors.redislink import Call

PREFIX = "llt"
LIFE_S = 30.0
MAX_TICKETS = 10_000
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

    def __init__(self, *, max_tickets: int = MAX_TICKETS, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_tickets = max_tickets
        self._clock = clock
        self._issued: OrderedDict[Digest, tuple[float, Credential | None]] = OrderedDict()
        """Until when each is good, the oldest first."""

    def __repr__(self) -> str:
        return f"<MemoryTickets {len(self._issued)} open>"

    async def issue(self, credential: Credential | None) -> str:
        """A ticket for whoever showed this. Raises `Overloaded` where too many are open."""
        now = self._clock()
        while self._issued and next(iter(self._issued.values()))[0] <= now:
            self._issued.popitem(last=False)
        if len(self._issued) >= self._max_tickets:
            raise Overloaded("too many tickets are open; try again in a moment", retry_after_s=1.0)
        ticket = new_ticket()
        self._issued[Digest.of(ticket.encode())] = (now + LIFE_S, credential)
        return ticket

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """What it was issued for."""
        until, credential = self._issued.pop(Digest.of(ticket.encode()), (0.0, None))
        return (credential,) if self._clock() < until else None


class RedisTickets:
    """Of a cluster: whichever gateway issued it, it opens one socket, at any of them."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._prefix = f"llmactors:{{{namespace}}}:ticket:"

    def __repr__(self) -> str:
        return f"<RedisTickets {self._prefix}>"

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
        return f"{self._prefix}{Digest.of(ticket.encode()).sha256}"


def is_ticket(text: str) -> bool:
    """Whether it looks like one."""
    return _TICKET.fullmatch(text) is not None


def new_ticket() -> str:
    """256 bits that nobody can guess."""
    return f"{PREFIX}_{base62(int.from_bytes(secrets.token_bytes(32)), 43)}"
