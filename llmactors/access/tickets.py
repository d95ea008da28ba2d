"""Tickets: each opens one WebSocket or one stream for a browser.

A browser cannot send an API key in a header of a WebSocket's handshake, nor with an `EventSource`. A ticket is part of
a URL, and URLs are kept in logs and browser histories. So a ticket must be used within `LIFE_S` seconds, and opens one
WebSocket, once, or one stream. An `EventSource` that lost its connection sends the same URL again. So a ticket that has
opened a stream opens the same stream again, and nothing else, as long as the stream's answer is kept. On a connection
that outlives gateways, a WebSocket's handshake counts as such a stream: another gateway may read the same handshake.

The caller's credential is stored under the digest of the ticket.
"""

import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Protocol

import attrs
import msgspec

from llmactors.access.keys.text import Credential, Digest, base62
from llmactors.errors import Overloaded
from llmactors.redislink.call import Call
from llmactors.redislink.names import RedisNames

PREFIX = "llt"
LIFE_S = 30.0
MAX_TICKETS = 10_000
STREAM_S = 86_400.0
"""The time after its last use in which a ticket opens its stream again."""
MAX_OF_ONE = 1000
"""The most open tickets of one key, so that one key cannot take all tickets."""
_TICKET = re.compile(rf"{PREFIX}_[0-9A-Za-z]{{43}}")


class Tickets(Protocol):
    """Issues and redeems tickets. Each method raises `errors.Unavailable` while the store of the tickets is away."""

    async def issue(self, credential: Credential | None) -> str:
        """A new ticket for the caller with this credential; None for a caller of a node without keys."""
        ...

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """The credential of the ticket, in a tuple; None if the ticket was used before, is too old, or is not known."""
        ...

    async def redeem_for(self, stream: str, ticket: str, keep_s: float = STREAM_S) -> tuple[Credential | None] | None:
        """As `redeem`, but the ticket opens the same stream again, within `keep_s`."""
        ...


class MemoryTickets:
    """The tickets of a single process."""

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
        """The end and the credential of each ticket, oldest first."""
        self._open_of: Counter[str] = Counter()
        """How many are open of each key of a store, by its id."""
        self._streams: OrderedDict[Digest, tuple[float, str, Credential | None]] = OrderedDict()
        """The end, the stream and the credential of each ticket that has opened a stream; the last used is last."""

    def __repr__(self) -> str:
        return f"<MemoryTickets {len(self._issued)} open>"

    async def issue(self, credential: Credential | None) -> str:
        """A new ticket for the caller with this credential. Raises `Overloaded` if too many tickets are open."""
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
        """The credential of the ticket, in a tuple; None if the ticket is not good."""
        until, credential = self._take(Digest.of(ticket.encode()))
        return (credential,) if self._clock() < until else None

    async def redeem_for(self, stream: str, ticket: str, keep_s: float = STREAM_S) -> tuple[Credential | None] | None:
        """The credential of the ticket."""
        digest, now = Digest.of(ticket.encode()), self._clock()
        until, own_stream, credential = self._streams.pop(digest, (0.0, stream, None))
        if not until:
            until, credential = self._take(digest)
        if now >= until:
            return None
        self._streams[digest] = (now + keep_s if stream == own_stream else until, own_stream, credential)
        if len(self._streams) > self._max_tickets:
            self._streams.popitem(last=False)
        return (credential,) if stream == own_stream else None

    def _take(self, digest: Digest) -> tuple[float, Credential | None]:
        if digest not in self._issued:
            return 0.0, None
        until, credential = self._issued.pop(digest)
        holder = _holder(credential)
        self._open_of[holder] -= 1
        if not self._open_of[holder]:
            del self._open_of[holder]
        return until, credential


@attrs.frozen
class _Used:
    """The stream that a used ticket belongs to."""

    stream: str
    credential: Credential | None


class RedisTickets:
    """The tickets of a cluster. Whichever gateway issued a ticket, it opens one WebSocket or stream, at any of them."""

    def __init__(self, call: Call, namespace: str) -> None:
        self._call = call
        self._names = RedisNames(namespace)

    def __repr__(self) -> str:
        return f"<RedisTickets of {self._names.namespace}>"

    async def issue(self, credential: Credential | None) -> str:
        """A new ticket for the caller with this credential."""
        ticket = new_ticket()
        await self._call("SET", self._key(ticket), msgspec.json.encode(credential), "PX", round(LIFE_S * 1000))
        return ticket

    async def redeem(self, ticket: str) -> tuple[Credential | None] | None:
        """The credential of the ticket, in a tuple; None if the ticket is not good."""
        return await self.redeem_for(secrets.token_hex(16), ticket, LIFE_S)

    async def redeem_for(self, stream: str, ticket: str, keep_s: float = STREAM_S) -> tuple[Credential | None] | None:
        """The credential of the ticket."""
        name = self._names.stream_ticket(Digest.of(ticket.encode()).sha256)
        data = await self._call("GET", name)
        if data is None:
            issued = await self._call("GET", self._key(ticket))
            if issued is None:
                return None
            used = _Used(stream, msgspec.json.decode(bytes(issued), type=Credential | None))
            # The ticket belongs to the stream before it is taken away: a gateway may die between the two.
            await self._call("SET", name, msgspec.json.encode(used), "NX", "PX", round(keep_s * 1000))
            await self._call("DEL", self._key(ticket))
            data = await self._call("GET", name)
            if data is None:
                return None
        used = msgspec.json.decode(bytes(data), type=_Used)
        if used.stream != stream:
            return None
        await self._call("SET", name, msgspec.json.encode(used), "PX", round(keep_s * 1000))
        return (used.credential,)

    def _key(self, ticket: str) -> str:
        return self._names.ticket(Digest.of(ticket.encode()).sha256)


def _holder(credential: Credential | None) -> str:
    """The key's id; empty for the node's single key, which all callers share, and for no key."""
    return "" if credential is None else credential.key_id


def is_ticket(text: str) -> bool:
    """Whether the text has the form of a ticket."""
    return _TICKET.fullmatch(text) is not None


def new_ticket() -> str:
    """A new ticket of 256 random bits."""
    return f"{PREFIX}_{base62(int.from_bytes(secrets.token_bytes(32)), 43)}"
