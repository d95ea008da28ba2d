"""Finds the caller of a request, by a key in `X-API-Key` or `Authorization: Bearer`, or on a WebSocket by a ticket.

A node accepts the keys of a key store, each of which belongs to a tenant, or the node's single key, or both. A node
with neither accepts every caller. Digests are compared, not secrets, in a time that does not depend on the result.

The wrong keys of each address are counted. An address with too many must wait, and meanwhile the single key is refused
as well: an operator chose the single key, so a caller who may try again and again could guess it. The keys of a store
and the tickets cannot be guessed, and are accepted from every address at any time. So a client with an old key does not
lock out other clients behind the same proxy. A request without a key is no attempt and is not counted.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator

import attrs
import trio

from llmactors.access.attempts import FailedAttempts
from llmactors.access.keys.keyring import Keyring
from llmactors.access.keys.record import KeyRecord, KeyStatus
from llmactors.access.keys.text import Credential, Digest, read_key
from llmactors.access.tickets import MemoryTickets, Tickets, is_ticket
from llmactors.errors import RateLimited, Unauthenticated
from llmactors.http.addresses import network_of
from llmactors.limiter.limits import Limits

_SINGLE = ""
"""The id of a credential that was made from the node's single key."""
_NOT_KNOWN = "this API key is not known"
_LONGEST_SLEEP_S = 3600.0
"""The system clock may be set forward, so the end of a key is checked at least this often."""


@attrs.frozen
class Caller:
    """The sender of a request, and what the sender may use."""

    tenant: str
    """The owner of the caller's requests."""
    limit_key: str
    """Identifies the caller for the node's `rate_limit`: the key's owner, or the address on a node without keys."""
    limits: Limits = attrs.field(factory=Limits)
    """The limits of the tenant. The node's `rate_limit` holds beside these."""
    models: frozenset[str] | None = None
    """The models that the caller may use; None for all."""
    best_priority: int = 0
    """The best priority class that the caller may ask for: 0 is served before 1, and 1 before 2."""
    weight: float = 1.0
    """The tenant's share of its priority class."""
    credential: Credential | None = attrs.field(default=None, eq=False, repr=False)
    """The credential that the caller sent; None on a node without keys."""


class Authenticator:
    """Finds the caller of a request, and counts the wrong keys of each address."""

    def __init__(
        self,
        api_key: str | None,
        *,
        keyring: Keyring | None = None,
        tickets: Tickets | None = None,
        attempts: FailedAttempts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._single = Digest.of(api_key.encode()) if api_key else None
        self._keyring = keyring
        self._tickets = tickets or MemoryTickets()
        self._attempts = attempts or FailedAttempts(0)

    def __repr__(self) -> str:
        if self._is_open:
            return "<Authenticator without a key>"
        return f"<Authenticator with {'a' if self._single else 'no'} key of its own, {self._keyring!r}>"

    @property
    def _is_open(self) -> bool:
        return self._single is None and self._keyring is None

    def identify(self, headers: Iterable[tuple[bytes, bytes]], client: str) -> Caller:
        """The caller with these ASGI headers at address `client`.

        Raises `Unauthenticated`, `RateLimited` after too many wrong keys, or `Unavailable` if the keys cannot be read.
        """
        if self._is_open:
            return Caller("anonymous", f"address:{network_of(client)}")
        given = _key_of(headers)
        if given is None:
            raise Unauthenticated("send the API key as `X-API-Key: …` or `Authorization: Bearer …`")
        digest = Digest.of(given)
        if self._single is not None and digest == self._single:
            self._check_attempts(client)
            return Caller("key", "key", credential=Credential(_SINGLE, digest))
        with self._counting(client):
            return self._judge(read_key(given))

    async def issue_ticket(self, caller: Caller) -> str:
        """A ticket that opens one WebSocket for this caller, within `tickets.LIFE_S` seconds."""
        return await self._tickets.issue(caller.credential)

    async def redeem_ticket(self, ticket: str, client: str) -> Caller:
        """The caller that the ticket was issued to, if the caller's key is still good. Raises as `identify`."""
        with self._counting(client):
            issued = await self._tickets.redeem(ticket) if is_ticket(ticket) else None
            if issued is None:
                raise Unauthenticated(
                    "this ticket is not known, was used before, or is too old: POST /v1/ws/tickets returns a new one"
                )
            if issued[0] is None:
                return self.identify((), client)
            return self._judge(issued[0])

    async def wait_refused(self, caller: Caller) -> None:
        """Returns when the caller's key is revoked, has expired, or was rotated to a new secret."""
        credential = caller.credential
        if credential is None or credential.key_id == _SINGLE or self._keyring is None:
            await trio.sleep_forever()
            return
        while True:
            record = self._keyring.known(credential.key_id)
            now = time.time()
            if record is None or record.judge(credential, now) is not KeyStatus.GOOD:
                return
            with trio.move_on_after(min(record.next_end(now) - now, _LONGEST_SLEEP_S)):
                await self._keyring.wait_changed()

    @contextlib.contextmanager
    def _counting(self, client: str) -> Iterator[None]:
        """Counts an `Unauthenticated` of the body as a wrong key of this address."""
        try:
            yield
        except Unauthenticated:
            self._check_attempts(client)
            self._attempts.note(client, self._clock())
            raise

    def _judge(self, credential: Credential | None) -> Caller:
        if credential is not None and credential.key_id == _SINGLE and credential.digest == self._single:
            return Caller("key", "key", credential=credential)
        record = None if self._keyring is None or credential is None else self._keyring.find(credential.key_id)
        if record is None or credential is None:
            raise Unauthenticated(_NOT_KNOWN)
        status = record.judge(credential, time.time())
        if status is KeyStatus.WRONG:
            raise Unauthenticated(_NOT_KNOWN)
        if status is not KeyStatus.GOOD:
            raise Unauthenticated(f"this API key is {status.value}")
        return _caller(record, credential)

    def _check_attempts(self, client: str) -> None:
        wait_s = self._attempts.wait_s(client, self._clock())
        if wait_s:
            raise RateLimited(
                f"too many wrong API keys came from this address; try again in {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )


def _caller(record: KeyRecord, credential: Credential) -> Caller:
    return Caller(
        record.tenant,
        f"tenant:{record.tenant}",
        limits=record.limits,
        models=record.models,
        best_priority=record.best_priority,
        weight=record.weight,
        credential=credential,
    )


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"x-api-key":
            return value.strip()
        if lowered == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and token:
                return token.strip()
    return None
