"""Finds the caller of a request, by a key in `X-API-Key` or `Authorization: Bearer`, by a ticket, or by a session.

A node accepts the keys of a key store, each of which belongs to a tenant, or the node's single key, or both. A node
with neither accepts every caller. Digests are compared, not secrets, in a time that does not depend on the result.

The wrong keys of each address are counted, as `attempts` explains. The right key is accepted all the same. A request
without a key is no attempt and is not counted.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator

import attrs
import trio

from llmactors.access.attempts import FailedAttempts
from llmactors.access.keys.keyring import Keyring
from llmactors.access.keys.record import KeyRecord, KeyStatus
from llmactors.access.keys.text import Credential, Digest, read_key
from llmactors.access.sessions import MemorySessions, Sessions, is_session
from llmactors.access.tickets import LIFE_S, MemoryTickets, Tickets, is_ticket
from llmactors.errors import Forbidden, RateLimited, Unauthenticated
from llmactors.http.addresses import network_of
from llmactors.limiter.limits import Limits

_SINGLE = ""
"""The id of a credential that was made from the node's single key."""
_NOT_KNOWN = "this API key is not known"
STRONG_CHARS = 16
"""A single key of this length counts as random. 16 hexadecimal digits have 64 bits, too many to guess."""
STRONG_DIFFERENT = 6
"""The number of different characters that a random key has at least."""
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
    is_operator: bool = False
    """Whether the caller may use the routes for operators."""
    credential: Credential | None = attrs.field(default=None, eq=False, repr=False)
    """The credential that the caller sent; None on a node without keys."""

    @property
    def key_id(self) -> str:
        """The id of the caller's key in the store; empty for the node's single key, and without a key."""
        return _SINGLE if self.credential is None else self.credential.key_id


@functools.lru_cache(maxsize=1024)
def _anonymous(client: str) -> Caller:
    """The caller without a key at this address. The cache makes a request cheaper from an address that sends many."""
    return Caller("anonymous", f"address:{network_of(client)}", is_operator=True)


class Authenticator:
    """Finds the caller of a request, and counts the wrong keys of each address."""

    def __init__(
        self,
        api_key: str | None,
        *,
        keyring: Keyring | None = None,
        tickets: Tickets | None = None,
        sessions: Sessions | None = None,
        attempts: FailedAttempts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._single = Digest.of(api_key.encode()) if api_key else None
        self._can_be_guessed = api_key is not None and not is_strong(api_key)
        self._keyring = keyring
        self._tickets = tickets or MemoryTickets()
        self._sessions = sessions or MemorySessions()
        self._attempts = attempts or FailedAttempts(0)

    def __repr__(self) -> str:
        if self.is_open:
            return "<Authenticator without a key>"
        return f"<Authenticator with {'a' if self._single else 'no'} key of its own, {self._keyring!r}>"

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return self._single is None and self._keyring is None

    async def authenticate(self, headers: Iterable[tuple[bytes, bytes]], client: str) -> Caller:
        """As `identify`. If the node's single key can be guessed, an address with many wrong keys waits for its turn.

        A key that has the form of a store's key is no guess of the single key, and does not wait.
        """
        given = _key_of(headers) if self._can_be_guessed else None
        if given is not None and read_key(given) is None:
            await self._wait_for_turn(client)
        return self.identify(headers, client)

    async def _wait_for_turn(self, client: str) -> None:
        now = self._clock()
        turn_s = self._attempts.turn_s(client, now)
        if turn_s is None:
            raise RateLimited(
                "too many wrong API keys came from this address; try again in a moment", retry_after_s=1.0
            )
        if turn_s:
            await trio.sleep(turn_s)

    def identify(self, headers: Iterable[tuple[bytes, bytes]], client: str) -> Caller:
        """The caller with these ASGI headers at address `client`.

        Raises `Unauthenticated`, `RateLimited` after too many wrong keys, or `Unavailable` if the keys cannot be read.
        """
        if self.is_open:
            return _anonymous(client)
        given = _key_of(headers)
        if given is None:
            raise Unauthenticated("send the API key as `X-API-Key: …` or `Authorization: Bearer …`")
        digest = Digest.of(given)
        if self._single is not None and digest == self._single:
            return self._single_caller(Credential(_SINGLE, digest))
        with self._counting(client, digest):
            return self._judge(read_key(given))

    def key_records(self) -> list[KeyRecord]:
        """The records of all keys of the store, oldest first; none where no key store is set."""
        return [] if self._keyring is None else self._keyring.records()

    async def issue_ticket(self, caller: Caller) -> str:
        """A ticket that opens one WebSocket or one stream for this caller, within `tickets.LIFE_S`."""
        return await self._tickets.issue(caller.credential)

    async def redeem_ticket(
        self, ticket: str, client: str, *, stream: str | None = None, handshake: str | None = None
    ) -> Caller:
        """The caller that the ticket was issued to, if the caller's key is still good. Raises as `identify`.

        `stream` is the id of the stream that the ticket is to open; None where the ticket is to open a WebSocket.
        `handshake` is the id of that WebSocket's handshake where another gateway may read the same handshake again.
        """
        with self._counting(client, Digest.of(ticket.encode())):
            issued = await self._redeemed(ticket, stream, handshake)
            if issued is None:
                raise Unauthenticated(
                    "this ticket is not known, was used before, or is too old: POST /v1/ws/tickets returns a new one"
                )
            if issued[0] is None:
                return self.identify((), client)
            return self._judge(issued[0])

    def recall(self, credential: Credential | None, client: str) -> Caller:
        """The caller with a credential that an earlier gateway has accepted. Raises as `identify`."""
        return self.identify((), client) if credential is None else self._judge(credential)

    async def begin_session(self, key: str, client: str) -> str | None:
        """The token of a new session of the operator with this key; None on a node that asks for no key.

        Raises as `identify`, `Forbidden` for the key of a tenant, or `Unavailable` if the sessions cannot be stored.
        """
        if self.is_open:
            return None
        caller = await self.authenticate([(b"x-api-key", key.encode())], client)
        check_operator(caller)
        return await self._sessions.begin(caller.credential)

    async def resume_session(self, token: str, client: str) -> Caller:
        """The caller that began the session, if the caller's key is still good. Raises as `identify`."""
        with self._counting(client, Digest.of(token.encode())):
            credential = await self._sessions.find(token) if is_session(token) else None
            if credential is None:
                raise Unauthenticated("this session has ended: send the operator's key to POST /v1/operator/session")
            return self._judge(credential)

    async def end_session(self, token: str) -> None:
        """Ends a session. Does nothing for a token that is not known."""
        if is_session(token):
            await self._sessions.end(token)

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

    async def _redeemed(
        self, ticket: str, stream: str | None, handshake: str | None
    ) -> tuple[Credential | None] | None:
        if not is_ticket(ticket):
            return None
        if stream is not None:
            return await self._tickets.redeem_for(stream, ticket)
        if handshake is not None:
            return await self._tickets.redeem_for(f"handshake {handshake}", ticket, LIFE_S)
        return await self._tickets.redeem(ticket)

    @contextlib.contextmanager
    def _counting(self, client: str, digest: Digest) -> Iterator[None]:
        """Counts an `Unauthenticated` of the body as a wrong key of this address. `digest` is the key's."""
        try:
            yield
        except Unauthenticated:
            self._check_attempts(client)
            self._attempts.note(client, digest.sha256, self._clock())
            raise

    def _single_caller(self, credential: Credential) -> Caller:
        # Beside a key store, the single key is the key of one more tenant.
        return Caller("key", "key", is_operator=self._keyring is None, credential=credential)

    def _judge(self, credential: Credential | None) -> Caller:
        if credential is not None and credential.key_id == _SINGLE and credential.digest == self._single:
            return self._single_caller(credential)
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


def check_operator(caller: Caller) -> None:
    """Raises `Forbidden` for a caller that is no operator."""
    if not caller.is_operator:
        raise Forbidden("this route is for operators: use a key that `keys create --operator` has made")


def sends_key(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the ASGI headers have an API key, right or wrong."""
    return _key_of(headers) is not None


def is_strong(api_key: str) -> bool:
    """Whether nobody can guess the node's single key."""
    return len(api_key) >= STRONG_CHARS and len(set(api_key)) >= STRONG_DIFFERENT


def _caller(record: KeyRecord, credential: Credential) -> Caller:
    return Caller(
        record.tenant,
        f"tenant:{record.tenant}",
        limits=record.limits,
        models=record.models,
        best_priority=record.best_priority,
        weight=record.weight,
        is_operator=record.operator,
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
