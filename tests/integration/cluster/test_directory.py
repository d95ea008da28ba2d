"""The node directory on real Redis and Valkey servers."""

import contextlib
import time
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from llmactors.actors import ActorSpec, SupervisorSpec, Tree
from llmactors.cli.drain import drain
from llmactors.cli.uncordon import uncordon
from llmactors.cluster.node_record import TTL_S, NodeLoad, NodeRecord, Role, new_incarnation
from llmactors.cluster.node_store import NodeStore
from llmactors.cluster.process_id import ProcessId
from llmactors.cluster.registration import NameTaken, RegistrationActor, take_name
from llmactors.config import Settings
from llmactors.redislink.link import RedisLink
from llmactors.redislink.names import RedisNames
from llmactors.testing.node import wait_until
from llmactors.testing.redis_server import RedisServer

pytestmark = pytest.mark.integration


def record(name: str = "w1", role: Role = Role.WORKER, **fields: object) -> NodeRecord:
    made = NodeRecord(
        name=name,
        role=role,
        incarnation=new_incarnation(),
        process=ProcessId.own(),
        started_at=time.time(),
        version="1",
        renewed_at=time.time(),
    )
    return attrs.evolve(made, **fields)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def store_on(server: RedisServer, namespace: str = "test") -> AsyncIterator[NodeStore]:
    link = RedisLink(server.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield NodeStore(link.call, namespace)
        nursery.cancel_scope.cancel()


async def test_nodes_are_listed_until_they_leave(server: RedisServer) -> None:
    async with store_on(server) as store:
        worker, gateway = record(), record("g1", Role.GATEWAY)
        for each in (worker, gateway):
            assert (await store.put(each, {"name": each.name})).holder is None
        assert await store.get("w1") == worker
        assert await store.tree("w1") == {"name": "w1"}
        assert await store.records() == [gateway, worker]
        assert await store.records(Role.WORKER) == [worker]
        await store.remove(worker)
        assert await store.records() == [gateway]
        assert await store.get("w1") is None
        assert await store.tree("w1") is None


async def test_every_redis_key_of_a_node_expires(server: RedisServer) -> None:
    async with store_on(server) as store:
        await store.put(record())
        await store.cordon("w1", 20.0)
        with server.client() as client:
            keys = list(client.scan_iter())
            assert len(keys) == 3
            assert all(0 < client.pttl(key) <= 30_000 for key in keys)
            assert all(key.startswith(RedisNames("test").prefix.encode()) for key in keys)


async def test_node_name_belongs_to_one_incarnation(server: RedisServer) -> None:
    async with store_on(server) as store:
        first, second = record(), record()
        await store.put(first)
        assert (await store.put(second)).holder == first
        assert await store.get("w1") == first
        await store.remove(second)
        assert await store.get("w1") == first
        assert (await store.put(second, replaces=first.incarnation)).holder is None
        assert (await store.put(first)).holder == second  # so the replaced node notices


async def test_unreadable_node_record_is_ignored(server: RedisServer) -> None:
    async with store_on(server) as store:
        await store.put(record("odd"))
        await store.put(record("w1"))
        with server.client() as client:
            client.hset(RedisNames("test").node("odd"), "record", "{}")
        assert [each.name for each in await store.records()] == ["w1"]


async def test_nodes_stay_listed_while_redis_is_full(server: RedisServer) -> None:
    async with store_on(server) as store:
        node = record()
        with server.client() as client:
            client.config_set("maxmemory", 1)
            await store.put(node)
            await store.cordon("w1")
            assert (await store.put(node)).cordon is not None
            await store.remove(node)
            client.config_set("maxmemory", 0)


async def test_name_of_a_dead_process_is_free_at_once(any_server: RedisServer) -> None:
    async with store_on(any_server) as store:
        await store.put(record(process=attrs.evolve(ProcessId.own(), begun="1")))
        began = trio.current_time()
        await take_name(store, record)
        assert trio.current_time() - began < TTL_S, "its record has ended"


async def test_name_of_a_remote_node_is_free_after_its_record_expires(any_server: RedisServer) -> None:
    async with store_on(any_server) as store:
        await store.put(record(process=ProcessId("elsewhere", 1)))
        mine = record()
        began = trio.current_time()
        await take_name(store, lambda: mine)
        assert trio.current_time() - began > TTL_S - 0.5
        assert await store.get("w1") == mine


async def test_name_of_a_live_node_is_taken(any_server: RedisServer) -> None:
    async with store_on(any_server) as store, node_on(store, record(process=ProcessId("elsewhere", 7))):
        with pytest.raises(NameTaken, match='a node named "w1" is already running: worker on elsewhere, pid 7'):
            await take_name(store, record)


@contextlib.asynccontextmanager
async def node_on(store: NodeStore, node: NodeRecord) -> AsyncIterator[list[object]]:
    """Runs a node actor in a tree; yields what it was told."""
    heard: list[object] = []
    spec = ActorSpec(
        "node",
        lambda: RegistrationActor(
            store,
            lambda: node,
            dict,
            on_cordon=lambda cordon: heard.extend([] if cordon is None else [cordon]),
            on_replaced=heard.append,
        ),
    )
    tree = Tree(SupervisorSpec("root", (spec,), intensity=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        yield heard
        tree.stop()


async def test_node_takes_its_name_and_returns_it(any_server: RedisServer) -> None:
    async with store_on(any_server) as store:
        async with node_on(store, record()):
            first = await store.get("w1")
            assert first is not None
            await trio.sleep(1.2)
            later = await store.get("w1")
            assert later is not None
            assert later.renewed_at > first.renewed_at
        assert await store.get("w1") is None


async def test_redis_outage_keeps_node_records(any_server: RedisServer) -> None:
    async with store_on(any_server) as store, node_on(store, record()) as heard:
        any_server.kill()
        await trio.sleep(1.5)
        await trio.to_thread.run_sync(any_server.start)
        with trio.fail_after(5):
            while True:
                with contextlib.suppress(Exception):
                    found = await store.get("w1")
                    if found is not None and found.renewed_at > time.time() - 0.5:
                        break
                await trio.sleep(0.05)
        assert heard == []


async def test_node_learns_that_another_took_its_name(any_server: RedisServer) -> None:
    async with store_on(any_server) as store:
        old = record()
        async with node_on(store, old) as heard:
            new = record()
            await store.put(new, replaces=old.incarnation)
            await wait_until(lambda: bool(heard))
            assert isinstance(heard[0], NameTaken)
        assert await store.get("w1") == new


async def test_drain_waits_until_the_node_holds_nothing(any_server: RedisServer) -> None:
    async with store_on(any_server, "main") as store, trio.open_nursery() as nursery:
        node = record(load=NodeLoad(running=2))
        await store.put(node)

        async def obey() -> None:
            while (await store.put(node)).cordon is None:  # noqa: ASYNC110 - the command writes to Redis
                await trio.sleep(0.01)
            await store.put(attrs.evolve(node, cordoned=True))
            await trio.sleep(0.2)
            await store.put(attrs.evolve(node, cordoned=True, load=NodeLoad()))

        nursery.start_soon(obey)
        settings = Settings(redis=any_server.url)
        found = await drain(settings, "w1")
        assert (found.heard, found.left) == (True, 0)
        await uncordon(settings, "w1")
        assert await store.cordon_of("w1") is None


async def test_drain_of_a_silent_node_says_so(server: RedisServer) -> None:
    async with store_on(server, "main") as store:
        await store.put(record())
        found = await drain(Settings(redis=server.url), "w1", wait_s=0.3)
        assert not found.heard


async def test_cordon_outlives_its_node_and_ends_by_itself(server: RedisServer) -> None:
    async with store_on(server) as store:
        node = record()
        assert (await store.put(node)).cordon is None
        await store.cordon("w1")
        await store.remove(node)
        cordon = (await store.put(record())).cordon
        assert cordon is not None
        assert cordon.until_unix_s is None
        assert "`uncordon w1` ends that" in cordon.describe("w1")
        await store.cordon("w1", 0.3)
        ending = await store.cordon_of("w1")
        assert ending is not None
        assert ending.until_unix_s is not None
        assert abs(ending.until_unix_s - time.time() - 0.3) < 1
        await trio.sleep(0.4)
        assert await store.cordon_of("w1") is None
        assert not await store.uncordon("w1")
