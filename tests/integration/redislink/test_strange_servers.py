"""Servers in states that a real server does not enter on demand, and peers that are no Redis, all of them faked."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs
import pytest
import trio

from llmactors.errors import OperatorError
from llmactors.redislink.call import Call
from llmactors.redislink.errors import Loading, MasterDown, Misconfigured, NoReplicas, OutcomeUnknown, ReplyError
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings

pytestmark = pytest.mark.integration

Answer = Callable[[list[bytes]], bytes | None]
Fake = Callable[[Answer], AbstractAsyncContextManager[int]]
Running = Callable[[RedisLink], AbstractAsyncContextManager[RedisLink]]


async def test_each_refusal_has_its_type(fake: Fake, politely: Answer, running: Running, quick: LinkSettings) -> None:
    texts = {
        b"LOADING Redis is loading": Loading,
        b"MASTERDOWN Link with MASTER is down": MasterDown,
        b"MISCONF Redis is configured": Misconfigured,
        b"NOREPLICAS Not enough": NoReplicas,
        b"ODD thing": ReplyError,
    }

    def answer(command: list[bytes]) -> bytes | None:
        return b"-" + command[1] + b"\r\n" if command[0] == b"SAY" else politely(command)

    async with fake(answer) as port, running(RedisLink(f"redis://127.0.0.1:{port}", quick)) as link:
        for text, kind in texts.items():
            with pytest.raises(kind) as caught:
                await link.call("SAY", text)
            assert type(caught.value) is kind
        assert link.statistics().connects == 1


async def test_link_waits_while_the_server_loads(
    fake: Fake, politely: Answer, running: Running, quick: LinkSettings
) -> None:
    asked = 0

    def answer(command: list[bytes]) -> bytes | None:
        nonlocal asked
        if command[0] == b"PING":
            asked += 1
            if asked < 4:
                return b"-LOADING Redis is loading the dataset in memory\r\n"
        return politely(command)

    async with fake(answer) as port, running(RedisLink(f"redis://127.0.0.1:{port}", quick)) as link:
        assert asked >= 4
        assert link.is_up


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `s3cret`\r\n", "too old"),
        (b"-NOPROTO unsupported protocol version\r\n", "too old"),
        (b"%1\r\n$7\r\nversion\r\n$5\r\n6.2.6\r\n", "version 6.2.6: 7.0 or newer"),
        (b"%0\r\n", "version ?"),
        (b"+OK\r\n", "does not speak RESP3"),
        (b"*0\r\n", "does not speak RESP3"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Redis's protocol"),
        (b"-DENIED Redis is running in protected mode because\r\n", "protected mode"),
        (b"-ERR max number of clients reached\r\n", "max number of clients"),
        (None, "the server closed the connection"),
        (b"", "no answer"),
    ],
)
async def test_unusable_server_is_one_line(
    fake: Fake, politely: Answer, quick: LinkSettings, hello: bytes | None, message: str
) -> None:
    def answer(command: list[bytes]) -> bytes | None:
        return hello if command[0] == b"HELLO" or not hello else politely(command)

    settings = attrs.evolve(quick, connect_s=0.3)
    async with fake(answer) as port:
        with trio.fail_after(5), pytest.raises(OperatorError) as caught:
            await RedisLink(f"redis://:s3cret@127.0.0.1:{port}", settings).run()
    assert message in caught.value.message
    assert "s3cret" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("nonsense", [b"?\r\n", b"+a\r\n+b\r\n", None, b"%1\r\n*0\r\n+a\r\n", b":x\r\n"])
async def test_malformed_reply_costs_only_one_connection(
    fake: Fake, politely: Answer, running: Running, quick: LinkSettings, nonsense: bytes | None
) -> None:
    def answer(command: list[bytes]) -> bytes | None:
        return nonsense if command[0] == b"NONSENSE" else politely(command)

    async with fake(answer) as port, running(RedisLink(f"redis://127.0.0.1:{port}", quick)) as link:
        for turn in range(5):
            with trio.fail_after(5):
                await link.wait_up()
                if nonsense is not None and nonsense.startswith(b"+a"):
                    assert await link.call("NONSENSE") == b"a"
                else:
                    with pytest.raises(OutcomeUnknown):
                        await link.call("NONSENSE")
                while link.statistics().connects < turn + 2:  # noqa: ASYNC110 - it has no event
                    await trio.sleep(0.005)
        assert await link.call("PING") == b"OK"


async def test_exception_of_on_connect_ends_only_the_first_run(
    fake: Fake, politely: Answer, quick: LinkSettings
) -> None:
    """An exception at the first connect ends `run`; after a later one the link reconnects."""
    refusing = True

    def answer(command: list[bytes]) -> bytes | None:
        return b"-NOPERM no\r\n" if refusing and command[0] == b"FUNCTION" else politely(command)

    async def prepare(call: Call) -> None:
        await call("FUNCTION", "LOAD", "x")

    async with fake(answer) as port:
        link = RedisLink(f"redis://127.0.0.1:{port}", quick, on_connect=prepare)
        with pytest.raises(OperatorError, match="NOPERM no"):
            await link.run()
        refusing = False
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            refusing = True
            link._connection.close("a test")  # type: ignore[union-attr]
            while "NOPERM" not in (link.statistics().last_error or ""):  # noqa: ASYNC110 - it has no event
                await trio.sleep(0.005)
            assert not link.is_up
            refusing = False
            with trio.fail_after(5):
                await link.wait_up()
            nursery.cancel_scope.cancel()


async def test_each_connect_asks_the_sentinels(
    fake: Fake, politely: Answer, running: Running, quick: LinkSettings
) -> None:
    masters: list[int] = []
    asked = 0

    def who(port: int) -> Answer:
        return lambda command: b":%d\r\n" % port if command[0] == b"WHO" else politely(command)

    def sentinel(command: list[bytes]) -> bytes | None:
        nonlocal asked
        asked += 1
        if command != [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"main"]:
            return b"*-1\r\n"
        port = str(masters[0]).encode()
        return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)

    def silent(command: list[bytes]) -> bytes | None:
        return None

    async with fake(who(1)) as one, fake(who(2)) as two, fake(sentinel) as ask, fake(silent) as bad:
        masters.append(one)
        url = f"sentinel://127.0.0.1:{bad},127.0.0.1:{ask}"
        link = RedisLink(f"{url}/main", quick)
        async with running(link):
            assert await link.call("WHO") == 1
            masters[0] = two
            link._connection.close("failover")  # type: ignore[union-attr]
            while link.statistics().connects < 2:  # noqa: ASYNC110 - it has no event
                await trio.sleep(0.005)
            assert await link.call("WHO") == 2
        assert asked == 2
        with pytest.raises(OperatorError, match="no Sentinel knows a master with the name 'other'"):
            await RedisLink(f"{url}/other", quick).run()
        with pytest.raises(OperatorError, match="no Sentinel answers"):
            await RedisLink(f"sentinel://127.0.0.1:{bad}/main", quick).run()


async def test_replica_named_by_a_sentinel_is_refused(fake: Fake, politely: Answer, quick: LinkSettings) -> None:
    def replica(command: list[bytes]) -> bytes | None:
        reply = politely(command)
        return reply.replace(b"$6\r\nmaster", b"$7\r\nreplica") if reply else reply

    async with fake(replica) as port:

        def sentinel(command: list[bytes]) -> bytes | None:
            return b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port)

        async with fake(sentinel) as ask:
            with pytest.raises(OperatorError, match="not the master"):
                await RedisLink(f"sentinel://127.0.0.1:{ask}/main", quick).run()


async def test_start_does_not_wait_for_a_server_that_is_silent(fake: Fake) -> None:
    async with fake(lambda _: b"") as port, trio.open_nursery() as nursery:
        link = RedisLink(f"redis://127.0.0.1:{port}", LinkSettings(starts_without_server=True, connect_s=30.0))
        with trio.fail_after(3):
            await nursery.start(link.run)
        assert not link.is_up
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_start_fails_at_once_where_waiting_cannot_help(fake: Fake) -> None:
    async with fake(lambda _: b"-WRONGPASS invalid username-password pair\r\n") as port:
        link = RedisLink(f"redis://:s3cret@127.0.0.1:{port}", LinkSettings(starts_without_server=True))
        with trio.fail_after(3), pytest.raises(OperatorError, match="does not accept the password"):
            await link.run()
