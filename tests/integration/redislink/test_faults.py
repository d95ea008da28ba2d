"""Faults of a server, which the link survives."""

import contextlib
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs
import pytest
import trio
import trio.testing

from llmactors.errors import TooLarge
from llmactors.redislink.call import Call
from llmactors.redislink.errors import Busy, LinkDown, OutcomeUnknown, OutOfMemory, ReadOnly, Refused
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.integration

Running = Callable[[RedisLink], AbstractAsyncContextManager[RedisLink]]


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - it has no event
            await trio.sleep(0.005)


async def test_link_reconnects_to_a_killed_server(server: RedisServer, running: Running, quick: LinkSettings) -> None:
    seen: list[type[BaseException]] = []
    async with running(RedisLink(server.url, quick)) as link:
        server.send_signal(signal.SIGSTOP)

        async def ask() -> None:
            try:
                await link.call("SET", "k", 1)
            except (OutcomeUnknown, LinkDown) as error:
                seen.append(type(error))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            server.kill()
        assert seen == [OutcomeUnknown] * 100
        assert not link.is_up
        with pytest.raises(LinkDown):
            await link.call("PING")
        link.send_nowait("PING")
        before = link.statistics()
        assert before.unknown == 100
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("PING") == b"PONG"
        assert link.statistics().connects == 2
        assert link.statistics().run_id != before.run_id


async def test_frozen_server_misses_the_deadline(server: RedisServer, running: Running, quick: LinkSettings) -> None:
    async with running(RedisLink(server.url, quick)) as link:
        server.send_signal(signal.SIGSTOP)
        started = trio.current_time()
        with pytest.raises(OutcomeUnknown):
            await link.call("PING")
        assert quick.command_s * 0.9 <= trio.current_time() - started < quick.command_s + 1
        assert not link.is_up
        assert "no reply" in (link.statistics().last_error or "")
        server.send_signal(signal.SIGCONT)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("PING") == b"PONG"


async def test_freeze_of_an_idle_server_is_noticed(server: RedisServer, running: Running, quick: LinkSettings) -> None:
    async with running(RedisLink(server.url, quick)) as link:
        server.send_signal(signal.SIGSTOP)
        await _until(lambda: not link.is_up)
        server.send_signal(signal.SIGCONT)
        with trio.fail_after(10):
            await link.wait_up()


async def test_link_survives_client_kill_and_client_pause(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    async with running(RedisLink(server.url, quick, name="victim")) as link:
        with server.client() as observer:
            for turn in range(3):
                ours = next(client["id"] for client in observer.client_list() if client["name"] == "victim")
                observer.client_kill_filter(_id=ours)
                await _until(lambda: link.statistics().connects == turn + 2)  # noqa: B023 - within the turn
                assert await link.call("PING") == b"PONG"
            observer.client_pause(200)
        assert await link.call("SET", "k", 1) == b"OK"
        with server.client() as observer:
            observer.client_pause(1500)
        with pytest.raises(OutcomeUnknown):
            await link.call("SET", "k", 1)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("SET", "k", 1) == b"OK"


async def test_on_connect_runs_before_other_commands(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    ran: list[bool] = []

    async def prepare(call: Call) -> None:
        ran.append(link.is_up)
        await call("SET", "prepared", len(ran))

    link = RedisLink(server.url, quick, on_connect=prepare)
    async with running(link):
        assert await link.call("GET", "prepared") == b"1"
        server.kill()
        await _until(lambda: not link.is_up)
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("GET", "prepared") == b"2"
    assert ran == [False, False]


async def test_memory_is_bounded_if_the_server_stops_reading(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    settings = attrs.evolve(quick, command_s=2.0, max_queued_bytes=1_000_000, max_in_flight=500)
    refused = 0
    async with running(RedisLink(server.url, settings)) as link:
        server.send_signal(signal.SIGSTOP)

        async def ask(size: int) -> None:
            nonlocal refused
            try:
                await link.call("SET", "k", b"x" * size)
            except LinkDown as error:
                refused += "slow" in error.message
            except OutcomeUnknown:
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(400):
                nursery.start_soon(ask, 100_000)
            await trio.testing.wait_all_tasks_blocked()
            told = link.statistics()
            assert told.queued_bytes <= 1_000_000
            assert told.overflows > 0
            for _ in range(1000):
                nursery.start_soon(ask, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert link.statistics().in_flight <= 500
            for _ in range(1000):
                link.send_nowait("SET", "k", b"x" * 100_000)
            assert link.statistics().queued_bytes <= 1_000_000
            nursery.cancel_scope.cancel()
        assert refused > 0
        server.send_signal(signal.SIGCONT)
        with trio.fail_after(10):
            await link.wait_up()
            while True:
                with contextlib.suppress(LinkDown, OutcomeUnknown):
                    assert await link.call("PING") == b"PONG"
                    break
        with pytest.raises(TooLarge):
            await link.call("SET", "k", b"x" * 1_000_001)


async def test_server_at_maxmemory_refuses_only_writes(binary: str, running: Running) -> None:
    with redis_server(binary, appendfsync="no", maxmemory="3mb") as server:
        async with running(RedisLink(server.url)) as link:
            with pytest.raises(OutOfMemory):  # noqa: PT012 - which one is not known
                for number in range(100):
                    await link.call("SET", f"k{number}", b"x" * 100_000)
            assert await link.call("GET", "none") is None
            assert link.is_up


async def test_link_reconnects_when_a_replica_refuses(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    async with running(RedisLink(server.url, attrs.evolve(quick, ping_every_s=60.0))) as link:
        with server.client() as observer:
            observer.replicaof("127.0.0.1", "1")
            with pytest.raises(ReadOnly):
                await link.call("SET", "k", 1)
            assert "read-only" in (link.statistics().last_error or "read-only")
            observer.replicaof("NO", "ONE")
        await _until(lambda: link.statistics().connects >= 2)
        await link.wait_up()
        assert await link.call("SET", "k", 1) == b"OK"


async def test_link_leaves_a_server_that_changes_its_role(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    async with running(RedisLink(server.url, quick)) as link:
        before = link.statistics().commands
        await trio.sleep(quick.ping_every_s * 2)
        with server.client() as observer:
            observer.replicaof("127.0.0.1", "1")
            await _until(lambda: link.statistics().connects >= 2)
        told = link.statistics()
        assert told.last_error == "the server changed its role"
        assert told.server is not None
        assert told.server.role in {"replica", "slave"}
        assert told.commands >= before


async def test_busy_server_is_an_error(binary: str, running: Running) -> None:
    with redis_server(binary, appendfsync="no", busy_reply_threshold="20") as server:
        async with running(RedisLink(server.url)) as link, trio.open_nursery() as nursery:

            def block() -> None:
                with server.client() as observer, contextlib.suppress(Exception):
                    observer.eval("while true do end", 0)

            nursery.start_soon(trio.to_thread.run_sync, block)
            with trio.fail_after(5), pytest.raises(Busy) as caught:  # noqa: PT012 - which one is not known
                while True:
                    await link.call("GET", "k")
            assert isinstance(caught.value, Refused)
            assert link.is_up
            await link.call("SCRIPT", "KILL")
        server.kill()


async def test_run_can_be_cancelled_at_any_moment(server: RedisServer, quick: LinkSettings) -> None:
    async def prepare(call: Call) -> None:
        await call("PING")

    for moment in range(40):
        link = RedisLink(server.url, quick, on_connect=prepare)
        with trio.move_on_after(moment * 0.0002):
            await link.run()
        assert not link.is_up
        with pytest.raises(LinkDown):
            await link.call("PING")
    with server.client() as observer:
        await _until(lambda: all(client["name"] != "llmactors" for client in observer.client_list()))


async def test_unsent_commands_differ_from_unknown_outcomes(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    outcomes: dict[str, type[BaseException]] = {}
    async with running(RedisLink(server.url, attrs.evolve(quick, ping_every_s=60.0))) as link:
        server.send_signal(signal.SIGSTOP)

        async def ask(key: str, size: int) -> None:
            try:
                await link.call("SET", key, b"x" * size)
            except (OutcomeUnknown, LinkDown) as error:
                outcomes[key] = type(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "large", 16_000_000)
            await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.start_soon(ask, "small", 1)
        assert outcomes == {"large": OutcomeUnknown, "small": LinkDown}
        server.send_signal(signal.SIGCONT)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("EXISTS", "small") == 0
        assert link.statistics().unknown == 1
