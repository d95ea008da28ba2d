"""A simulated hour expires what an hour expires, though it takes no time."""

import random
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

import llmactors.redislink.link
from llmactors import errors
from llmactors.ledger import LedgerSettings
from llmactors.ledger.redis import RedisLedger, RedisLedgerSettings
from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.ledger_suite import Rig, finished, request
from tests.simulation.expiry import EXPIRIES, FAR_MS, encode_command, in_virtual_time
from tests.simulation.network import Network, dialer
from tests.simulation.store import CLOCK_MS, Store

pytestmark = pytest.mark.integration
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


async def test_simulated_hour_expires_what_an_hour_expires(
    store: Store, nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.clear()
    network = Network(store, random.Random(1))
    monkeypatch.setattr(llmactors.redislink.link, "dial", dialer(network))
    await nursery.start(network.run)
    settings = LedgerSettings(retention_s=600.0, tombstone_s=1200.0)
    ledger = RedisLedger(
        "redis://simulation",
        settings,
        RedisLedgerSettings(outage_s=1e6, call_timeout_s=60.0),
        clock_ms=lambda: CLOCK_MS,
    )
    await nursery.start(ledger.run)
    rig = Rig(ledger, trio.sleep, lambda: 0, settings)
    claim = await rig.start(request("r"))
    await rig.write(claim, 1, 2, finished(2))
    call = ledger.link.call
    await call("SET", "short", "1", "PX", 5000)
    await call("EVAL", "redis.call('PEXPIRE', KEYS[1], 9000)", 1, "short")
    now, rest = await call("EVAL", "return {redis.call('TIME')[1], redis.call('PTTL', KEYS[1])}", 1, "short")
    assert abs(int(now) - 1_700_000_000 - trio.current_time()) < 2
    assert 8900 <= rest <= 9000

    async def pass_time(seconds: float) -> None:
        """At once, since a cluster that lives through an hour sends thousands of commands."""
        autojump_clock.jump(seconds)
        await trio.sleep(0.5)

    await pass_time(8)
    assert await call("GET", "short") == b"1"
    await pass_time(2)
    assert await call("GET", "short") is None
    tombstone = RedisNames("main").ledger(LedgerKey.GONE, "r")
    await pass_time(600)
    await ledger.reap()
    with pytest.raises(errors.Expired):
        await ledger.read("r")
    assert await call("EXISTS", tombstone) == 1
    await pass_time(HOUR_S)
    assert await call("EXISTS", tombstone) == 0
    with pytest.raises(errors.NotFound):
        await ledger.read("r")
    network.cut_all(network.servers[0])
    nursery.cancel_scope.cancel(reason="the test is over")


def test_commands_are_translated_and_others_are_left() -> None:
    plain = encode_command([b"HSET", b"PX", b"f", b"v"]) + encode_command([b"FCALL", b"f", b"0"])
    assert in_virtual_time(plain) == plain
    code = in_virtual_time(encode_command([b"EVAL", b"#!lua flags=allow-oom\nreturn 1", b"0"]))
    assert b"\r\n#!lua flags=allow-oom\nlocal redis = (function() local function real()" in code
    assert code.endswith(b" return 1\r\n$1\r\n0\r\n")
    assert str(FAR_MS).encode() in code
    assert EXPIRIES.encode() in in_virtual_time(encode_command([b"SET", b"k", b"v", b"PX", b"5"]))
