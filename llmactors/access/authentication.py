"""Who is calling: by a key in `X-API-Key` or `Authorization: Bearer`, or, on a WebSocket, by a ticket.

Keys are those of a store, each for a tenant; the node's single one; or both. Where there is neither, nobody is asked
for any. Everything that is compared is a digest, and each comparison takes the same time however it ends.

How often an address may show what opens nothing is limited. After that even the single key is refused from there for a
while: an operator chose it, so it may be one that can be guessed, and whoever may go on trying would find it. Keys of
the store and tickets cannot be guessed, and open from everywhere at any time: one client with an old key locks out no
other behind the same proxy. A request without any key guesses nothing, and is not counted.
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
"""In place of an id, for the node's single key."""
_NOT_KNOWN = "this API key is not known"
_LONGEST_SLEEP_S = 3600.0
"""So that the end of a key is met also where the clock was put forward."""


@attrs.frozen
class Caller:
    """Who sent a request."""

    tenant: str
    """Whom the requests of this caller belong to."""
    limit_key: str
    """What the node's `rate_limit` counts by: the key's owner, or the address where no key is asked for."""
    limits: Limits = attrs.field(factory=Limits)
    """What this tenant may use; the node's own `rate_limit` counts beside it."""
    models: frozenset[str] | None = None
    """What it may use of the models that are served; None: all."""
    best_priority: int = 0
    """The best class that it may ask for: 0 is served before 1, 1 before 2."""
    weight: float = 1.0
    """The tenant's share of its class."""
    credential: Credential | None = attrs.field(default=None, eq=False, repr=False)
    """What it showed; None where nothing was asked for."""


class Authenticator:
    """Knows whose keys open this node, and remembers who tried others."""

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

        Raises `Unauthenticated`, `RateLimited` after too many failures, `Unavailable` where the keys cannot be read.
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
        """What opens one WebSocket for this caller, within `tickets.LIFE_S`."""
        return await self._tickets.issue(caller.credential)

    async def redeem_ticket(self, ticket: str, client: str) -> Caller:
        """Who the ticket was issued to, if their key is still good. Raises as `identify`."""
        with self._counting(client):
            issued = await self._tickets.redeem(ticket) if is_ticket(ticket) else None
            if issued is None:
                raise Unauthenticated(
                    "this ticket is not known, was used, or is too old: POST /v1/ws/tickets gives another"
                )
            if issued[0] is None:
                return self.identify((), client)
            return self._judge(issued[0])

    async def wait_refused(self, caller: Caller) -> None:
        """Returns once what this caller showed is good no more: revoked, expired, or rotated away."""
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
        """Around what says whether a secret is good."""
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
