"""The caller is found from a key or a ticket, or refused."""

import time
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from llmactors.access.attempts import FailedAttempts
from llmactors.access.authentication import Authenticator, Caller, is_strong
from llmactors.access.keys.file import write_keys
from llmactors.access.keys.keyring import FileKeyring
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import new_key
from llmactors.errors import RateLimited, Unauthenticated
from llmactors.limiter.limits import Limits

KEY = Authenticator("s3cret")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", b"s3cret")],
        [(b"X-API-Key", b" s3cret ")],
        [(b"authorization", b"Bearer s3cret")],
        [(b"Authorization", b"bearer s3cret")],
        [(b"authorization", b"BEARER   s3cret ")],
        [(b"authorization", b"Basic dTpw"), (b"x-api-key", b"s3cret")],
    ],
)
def test_right_key_is_one_tenant_and_one_limit(headers: list[tuple[bytes, bytes]]) -> None:
    assert KEY.identify(headers, "10.0.0.1") == Caller("key", "key", is_operator=True)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"s3cret")],
        [(b"authorization", b"Basic s3cret")],
        [(b"cookie", b"x-api-key=s3cret")],
    ],
)
def test_error_without_a_key_says_how_to_send_one(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated, match="X-API-Key"):
        KEY.identify(headers, "10.0.0.1")


@pytest.mark.parametrize(
    "given",
    [b"", b"S3CRET", b"s3cre", b"s3cret2", b"s3cret\xff", "gehéim".encode(), b"\x80\x81"],
)
def test_wrong_key_is_refused_and_not_quoted(given: bytes) -> None:
    with pytest.raises(Unauthenticated) as raised:
        KEY.identify([(b"x-api-key", given)], "10.0.0.1")

    assert "s3c" not in raised.value.message.lower()


def test_single_key_may_be_any_text() -> None:
    authenticator = Authenticator("gehéim")
    assert authenticator.identify([(b"x-api-key", "gehéim".encode())], "") == Caller("key", "key", is_operator=True)


def test_open_node_counts_callers_by_address() -> None:
    open_to_all = Authenticator(None)
    assert open_to_all.identify([], "10.0.0.1") == Caller("anonymous", "address:10.0.0.1", is_operator=True)
    assert open_to_all.identify([(b"x-api-key", b"whatever")], "::1") == Caller(
        "anonymous", "address:::/64", is_operator=True
    )


def test_callers_of_an_ipv6_network_share_one_limit() -> None:
    """A client usually has the whole network, and each of its 2 ** 64 addresses would have a limit of its own."""
    one, other, else_ = (
        Authenticator(None).identify([], each) for each in ("2001:db8::1", "2001:db8::2", "2001:db9::1")
    )
    assert one == other != else_


def test_repr_shows_no_key() -> None:
    assert "s3cret" not in repr(KEY)


GOOD = new_key()
RECORD = KeyRecord(
    id=GOOD.id,
    tenant="acme",
    hash=GOOD.digest,
    created=1.0,
    models=frozenset({"m"}),
    best_priority=2,
    weight=3.0,
    limits=Limits(concurrent=4),
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Door:
    """An authenticator with a key file, the node's single key, and a limit of three failures."""

    def __init__(self, path: Path, *records: KeyRecord, api_key: str | None = None) -> None:
        write_keys(path, records)
        self.path = path
        self.clock = Clock()
        self.auth = Authenticator(api_key, keyring=FileKeyring(path), attempts=FailedAttempts(3), clock=self.clock)

    def show(self, key: str, client: str = "10.0.0.1") -> Caller:
        return self.auth.identify([(b"x-api-key", key.encode())], client)


def test_caller_has_the_rights_of_its_key_record(tmp_path: Path) -> None:
    caller = Door(tmp_path / "k", RECORD).show(GOOD.text)
    assert caller == Caller(
        "acme",
        "tenant:acme",
        limits=Limits(concurrent=4),
        models=frozenset({"m"}),
        best_priority=2,
        weight=3.0,
    )
    assert GOOD.digest.sha256 not in repr(caller)


@pytest.mark.parametrize("api_key", [None, "s3cret"])
def test_empty_key_store_refuses_every_caller(tmp_path: Path, api_key: str | None) -> None:
    door = Door(tmp_path / "k", api_key=api_key)
    with pytest.raises(Unauthenticated):
        door.auth.identify([], "10.0.0.1")
    with pytest.raises(Unauthenticated):
        door.show(GOOD.text)


def test_single_key_works_beside_a_key_store(tmp_path: Path) -> None:
    door = Door(tmp_path / "k", RECORD, api_key="s3cret")
    assert door.show("s3cret").tenant == "key"
    assert door.show(GOOD.text).tenant == "acme"
    assert Door(tmp_path / "l", RECORD, api_key=GOOD.text).show(GOOD.text).tenant == "key"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (attrs.evolve(RECORD, revoked=2.0), "is revoked"),
        (attrs.evolve(RECORD, expires=2.0), "is expired"),
        (attrs.evolve(RECORD, hash=new_key().digest), "is not known"),
        (attrs.evolve(RECORD, id=new_key().id), "is not known"),
    ],
)
def test_bad_key_is_refused_and_not_quoted(tmp_path: Path, record: KeyRecord, says: str) -> None:
    with pytest.raises(Unauthenticated, match=says) as raised:
        Door(tmp_path / "k", record).show(GOOD.text)
    assert GOOD.text[20:30] not in str(raised.value)


def test_address_with_many_failures_is_told_when_to_retry(tmp_path: Path) -> None:
    door = Door(tmp_path / "k", RECORD, api_key="s3cret")
    for wrong in ("wrong", new_key().text, GOOD.text[:-1]):
        with pytest.raises(Unauthenticated):
            door.show(wrong)
    door.clock.now = 20.0
    with pytest.raises(RateLimited, match="in 40 s") as raised:
        door.show("wrong again")
    assert raised.value.retry_after_s == 40.0
    with pytest.raises(Unauthenticated):
        door.show("wrong again", client="10.0.0.2")
    door.clock.now = 60.0
    with pytest.raises(Unauthenticated):
        door.show("wrong again")


STRONG = "f3a1c08b7d5e2496"


@pytest.mark.parametrize("api_key", ["s3cret", STRONG])
async def test_wrong_keys_of_others_lock_out_no_right_key(
    tmp_path: Path, api_key: str, autojump_clock: MockClock
) -> None:
    """All clients of a proxy have one address."""
    door = Door(tmp_path / "k", RECORD, api_key=api_key)
    for number in range(20):
        with pytest.raises(RateLimited if number >= 3 else Unauthenticated):
            door.show(f"wrong {number}")
    for key, tenant in ((GOOD.text, "acme"), (api_key, "key")):
        for _ in range(3):
            headers = [(b"x-api-key", key.encode())]
            assert (await door.auth.authenticate(headers, "10.0.0.1")).tenant == tenant


async def test_short_key_is_guessed_at_a_bounded_rate(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Right and wrong keys of an address with many wrong keys wait for the same turns."""
    door = Door(tmp_path / "k", RECORD, api_key="s3cret")
    for number in range(3):
        with pytest.raises(Unauthenticated):
            door.show(f"wrong {number}")
    checked: list[tuple[float, str]] = []

    async def guess(key: str) -> None:
        try:
            await door.auth.authenticate([(b"x-api-key", key.encode())], "10.0.0.1")
        except RateLimited as error:
            if error.retry_after_s == 1.0:
                return  # the line was too long, and the key was not checked
        checked.append((trio.current_time(), key))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(guess, "s3cret" if number == 50 else f"guess {number}")
    assert len(checked) == 51
    assert max(at for at, _ in checked) - began == pytest.approx(10.0)
    assert len({round(at, 3) for at, _ in checked}) == 51


async def test_strong_key_never_waits_for_a_turn(tmp_path: Path, autojump_clock: MockClock) -> None:
    door = Door(tmp_path / "k", RECORD, api_key=STRONG)
    for number in range(3):
        with pytest.raises(Unauthenticated):
            door.show(f"wrong {number}")
    began = trio.current_time()
    for _ in range(100):
        assert (await door.auth.authenticate([(b"x-api-key", STRONG.encode())], "10.0.0.1")).tenant == "key"
        with pytest.raises(RateLimited):
            await door.auth.authenticate([(b"x-api-key", b"wrong")], "10.0.0.1")
    assert trio.current_time() == began


@pytest.mark.parametrize(
    ("api_key", "strong"),
    [(STRONG, True), (STRONG[:-1], False), ("a" * 40, False), ("", False), (new_key().text, True)],
    ids=["strong", "one character shorter", "one letter", "empty", "of a store"],
)
def test_long_and_varied_keys_count_as_strong(api_key: str, strong: bool) -> None:
    assert is_strong(api_key) is strong


def test_request_without_a_key_is_no_failed_attempt(tmp_path: Path) -> None:
    door = Door(tmp_path / "k", RECORD, api_key="s3cret")
    for _ in range(10):
        with pytest.raises(Unauthenticated):
            door.auth.identify([], "10.0.0.1")
    assert door.show("s3cret").tenant == "key"


async def test_ticket_needs_a_key_that_is_still_good(tmp_path: Path) -> None:
    door = Door(tmp_path / "k", RECORD, api_key="s3cret")
    for key, tenant in ((GOOD.text, "acme"), ("s3cret", "key")):
        ticket = await door.auth.issue_ticket(door.show(key))
        assert (await door.auth.redeem_ticket(ticket, "10.0.0.9")).tenant == tenant
        with pytest.raises(Unauthenticated, match="ticket"):
            await door.auth.redeem_ticket(ticket, "10.0.0.9")
    ticket = await door.auth.issue_ticket(door.show(GOOD.text))
    write_keys(door.path, [RECORD.revoke(2.0)])
    with pytest.raises(Unauthenticated, match="revoked"):
        await door.auth.redeem_ticket(ticket, "10.0.0.9")
    with pytest.raises(RateLimited):
        await door.auth.redeem_ticket("llt_guess", "10.0.0.9")


async def test_wait_refused_returns_when_the_key_is_revoked(tmp_path: Path) -> None:
    """This holds for a revocation and for a rotation; the node's single key never ends."""
    for end in (RECORD.revoke(2.0), RECORD.rotate(new_key(GOOD.id), 2.0, 0.0), None):
        door = Door(tmp_path / "k", RECORD, api_key="s3cret")
        single, caller = door.show("s3cret"), door.show(GOOD.text)
        told = trio.Event()

        async def wait(door: Door = door, caller: Caller = caller, told: trio.Event = told) -> None:
            await door.auth.wait_refused(caller)
            told.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(door.auth.wait_refused, single)
            await trio.testing.wait_all_tasks_blocked()
            assert not told.is_set()
            write_keys(door.path, [] if end is None else [end])
            assert door.auth._keyring is not None
            await door.auth._keyring.refresh()
            with trio.fail_after(2):
                await told.wait()
            nursery.cancel_scope.cancel(reason="seen")


async def test_wait_refused_returns_when_the_key_expires(tmp_path: Path) -> None:
    door = Door(tmp_path / "k", attrs.evolve(RECORD, expires=time.time() + 0.3))
    caller = door.show(GOOD.text)
    with trio.fail_after(5):
        await door.auth.wait_refused(caller)
    with pytest.raises(Unauthenticated, match="expired"):
        door.show(GOOD.text)
