"""Many tasks on one connection of a real server: order, pushes, cancellation, identity."""

import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

from llmactors.redislink.call import Call
from llmactors.redislink.errors import LinkDown, OutcomeUnknown, ReplyError
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration

Running = Callable[[RedisLink], AbstractAsyncContextManager[RedisLink]]


async def test_each_of_hundreds_of_tasks_gets_its_replies(server: RedisServer, running: Running) -> None:
    async with running(RedisLink(server.url)) as link:

        async def talk(number: int) -> None:
            for turn in range(20):
                text = f"{number}-{turn}".encode()
                assert await link.call("ECHO", text) == text
                if turn % 5 == 0:
                    link.send_nowait("INCR", "sent")
                    with pytest.raises(ReplyError) as caught:
                        await link.call("LPUSH", "sent", text)
                    assert caught.value.word == "WRONGTYPE"

        await link.call("SET", "sent", 0)
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(talk, number)
        assert await link.call("GET", "sent") == b"1200"
        assert link.statistics().in_flight == 0
        assert link.statistics().queued_bytes == 0
        assert link.statistics().connects == 1


async def test_commands_of_one_task_run_in_order(server: RedisServer, running: Running) -> None:
    async with running(RedisLink(server.url)) as link:
        for number in range(500):
            link.send_nowait("RPUSH", "list", number)
        assert await link.call("LRANGE", "list", 0, -1) == [str(number).encode() for number in range(500)]


async def test_large_value_comes_back_whole(server: RedisServer, running: Running) -> None:
    value = random.Random(1).randbytes(8 * 1024 * 1024)
    async with running(RedisLink(server.url)) as link:
        await link.call("SET", "k", value)
        assert await link.call("GET", "k") == value


async def test_cancelled_callers_keep_the_replies_in_order(server: RedisServer, running: Running) -> None:
    rng = random.Random(7)
    answered = 0
    async with running(RedisLink(server.url)) as link:

        async def talk(number: int) -> None:
            nonlocal answered
            for turn in range(20):
                text = f"{number}-{turn}".encode()
                with trio.move_on_after(rng.random() * 0.01):
                    assert await link.call("ECHO", text) == text
                    answered += 1

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(talk, number)
        assert await link.call("ECHO", "last") == b"last"
        assert answered > 0
        assert link.statistics().connects == 1
        assert link.statistics().in_flight == 0


async def test_caller_cancelled_before_the_call_sends_nothing(server: RedisServer, running: Running) -> None:
    async with running(RedisLink(server.url)) as link:
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.call("SET", "k", 1)
        assert scope.cancelled_caught
        assert await link.call("EXISTS", "k") == 0


async def test_pushes_between_replies_change_no_reply(server: RedisServer, running: Running) -> None:
    pushes: list[list[Any]] = []

    async def subscribe(call: Call) -> None:
        assert await call("SUBSCRIBE", "one", "two") == [b"subscribe", b"two", 2]

    async with running(RedisLink(server.url, on_push=pushes.append, on_connect=subscribe)) as link:

        async def talk(number: int) -> None:
            for turn in range(20):
                text = f"{number}-{turn}".encode()
                assert await link.call("PUBLISH", "one", text) == 1
                assert await link.call("ECHO", text) == text

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(talk, number)
        messages = [push for push in pushes if push[0] == b"message"]
        assert len(messages) == 1000
        assert {push[2] for push in messages} == {f"{n}-{t}".encode() for n in range(50) for t in range(20)}
        assert await link.call("UNSUBSCRIBE", "one", "two") == [b"unsubscribe", b"two", 0]
        assert await link.call("PING") == b"PONG"


async def test_exception_of_on_push_ends_run(server: RedisServer) -> None:
    def fail(push: list[Any]) -> None:
        raise KeyError(push[0])

    link = RedisLink(server.url, on_push=fail)
    ended: list[BaseException] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await link.run(task_status=task_status)
        except KeyError as error:
            ended.append(error)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            with contextlib.suppress(OutcomeUnknown):
                await link.call("SUBSCRIBE", "c")
    assert [error.args for error in ended] == [(b"subscribe",)]
    assert not link.is_up


async def test_statistics_name_the_server(server: RedisServer, running: Running) -> None:
    async with running(RedisLink(server.url + "/3", name="node a")) as link:
        told = link.statistics()
        with server.client() as observer:
            assert told.run_id == observer.info("server")["run_id"]
            clients = [client for client in observer.client_list() if client["name"] == "node-a"]
        assert [client["db"] for client in clients] == ["3"]
        assert told.server is not None
        assert told.server.kind in {"redis", "valkey"}
        assert (told.up, told.connects, told.address) == (True, 1, f"redis://127.0.0.1:{server.port}")


async def test_forbidden_command_and_idle_link_raise(server: RedisServer, running: Running) -> None:
    link = RedisLink(server.url)
    with pytest.raises(LinkDown):
        await link.call("PING")
    link.send_nowait("PING")
    async with running(link):
        with pytest.raises(ValueError, match="many tasks share"):
            await link.call("MONITOR")
        assert await link.call("PING") == b"PONG"


async def test_arguments_of_all_types_are_sent(server: RedisServer, running: Running) -> None:
    async with running(RedisLink(server.url, LinkSettings())) as link:
        assert await link.call(b"RPUSH", "k", 1, 2.5, b"\xff", "é") == 4
        assert await link.call("LRANGE", "k", 0, -1) == [b"1", b"2.5", b"\xff", "é".encode()]
        assert await link.call("GET", "none") is None
        await link.call("HSET", "h", "a", 1)
        assert await link.call("HGETALL", "h") == {b"a": b"1"}
