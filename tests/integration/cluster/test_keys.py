"""Keys in Redis are known at every gateway, and revoked at every gateway."""

import json
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from llmactors.access.keys.keyring import RedisKeyring
from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.redis import RedisKeyStore
from llmactors.access.keys.store import KeyStoreError
from llmactors.access.keys.text import new_key
from llmactors.cli import run
from llmactors.redislink.link import RedisLink
from llmactors.redislink.names import RedisNames
from llmactors.testing.redis_server import RedisServer
from tests.integration.cluster.conftest import Cluster
from tests.support.waiting import soon

pytestmark = pytest.mark.integration

HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PROMPT = {"prompt": "p", "max_tokens": 2}


class Operator:
    """Runs commands of the command line in this process."""

    def __init__(self, server: RedisServer, output: pytest.CaptureFixture[str]) -> None:
        self._server = server
        self._output = output

    def types(self, *arguments: str) -> str:
        assert run([*arguments, "--redis", self._server.url]) == 0
        return self._output.readouterr().out.strip()


def ask(url: str, key: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/generate", json=PROMPT, headers={"authorization": f"Bearer {key}"})


def redeem(url: str, ticket: str) -> str:
    """Opens a WebSocket with a ticket, and returns the first event."""

    async def ask_for_nothing() -> str:
        where = f"{url.replace('http', 'ws')}/v1/ws?ticket={ticket}"
        async with trio_websocket.open_websocket_url(where) as socket:
            await socket.send_message(json.dumps({"op": "cancel", "id": "nothing"}))
            return str(json.loads(await socket.get_message())["event"])

    return trio.run(ask_for_nothing)


def test_key_is_created_used_and_revoked_at_all_gateways(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    server = cluster.server
    operator = Operator(server, capfd)
    # The test asks with keys that are not known yet, or not any more, more often than an address may.
    gateways = [cluster.gateway(name, "--keys", "redis", "--max-auth-failures", "0") for name in ("g1", "g2")]
    worker = cluster.worker("w1", model="mock")
    urls = [gateway.wait_ready() for gateway in gateways]
    worker.wait_ready()
    soon(lambda: all(httpx.get(f"{url}/readyz").status_code == 200 for url in urls), 10)
    for url in urls:
        assert ask(url, "anything").status_code == 401  # an empty store admits nobody

    key = operator.types("keys", "create", "--tenant", "acme", "--name", "ci")
    other = operator.types("keys", "create", "--tenant", "other")
    soon(lambda: {ask(url, key).status_code for url in urls} == {200}, 1)
    made = ask(urls[0], key).json()["id"]
    for who, status in ((key, 200), (other, 404)):
        answer = httpx.get(f"{urls[1]}/v1/streams/{made}", headers={"x-api-key": who})
        assert answer.status_code == status

    # A ticket from one gateway opens one WebSocket at the other.
    ticket = httpx.post(f"{urls[0]}/v1/ws/tickets", headers={"x-api-key": key}).json()["ticket"]
    with server.client() as client:
        stored: list[Any] = [*client.keys(RedisNames("main").ticket("*"))]
        assert len(stored) == 1
        assert 0 < client.pttl(stored[0]) <= 30_000
        everything = repr([client.get(stored[0]), client.hgetall(RedisNames("main").api_keys), stored])
        assert ticket not in everything
        assert key.split("_")[2] not in everything
    assert redeem(urls[1], ticket) == "error"  # the caller is accepted; the stream that it names does not exist
    for url in urls:
        assert httpx.get(f"{url}/v1/ws?ticket={ticket}", headers=HANDSHAKE).status_code == 401

    # A ticket opens one stream again and again, at any gateway.
    ticket = httpx.post(f"{urls[0]}/v1/ws/tickets", headers={"x-api-key": key}).json()["ticket"]
    for url in (urls[1], urls[0], urls[1]):
        assert httpx.get(f"{url}/v1/streams/{made}?ticket={ticket}").status_code == 200
        assert httpx.get(f"{url}/v1/streams/another?ticket={ticket}").status_code == 401
        assert httpx.get(f"{url}/v1/ws?ticket={ticket}", headers=HANDSHAKE).status_code == 401

    shown = operator.types("keys", "list")
    assert "acme" in shown
    assert key.split("_")[2] not in shown

    # While Redis is away the keys read last are valid, and requests that need Redis are refused.
    server.kill()
    assert httpx.get(f"{urls[0]}/v1/models", headers={"x-api-key": key}).status_code == 200
    assert httpx.get(f"{urls[0]}/v1/models", headers={"x-api-key": "wrong"}).status_code == 401
    assert ask(urls[0], key).status_code == 503
    server.start()
    soon(lambda: {ask(url, key).status_code for url in urls} == {200}, 10)
    # Keys and requests use two connections. The connection of the keys is back once a newly made key is known.
    later = operator.types("keys", "create", "--tenant", "acme")
    soon(lambda: {ask(url, later).status_code for url in urls} == {200}, 10)

    operator.types("keys", "revoke", key)
    soon(lambda: {ask(url, key).status_code for url in urls} == {401}, 1)
    assert {ask(url, other).status_code for url in urls} == {200}
    for gateway in gateways:
        for secret in (key, other):
            assert secret.split("_")[2] not in gateway.errors()


def test_gateway_without_keys_warns_if_redis_has_keys(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    """The warning comes once, even if Redis is lost meanwhile. Without `--keys redis` everybody may use the cluster."""
    says = "Redis holds API keys, but this gateway does not use them"
    before, elsewhere = cluster.gateway("g0"), cluster.gateway("other", "--namespace", "other")
    before.wait_ready()
    Operator(cluster.server, capfd).types("keys", "create", "--tenant", "acme")
    asks, forgets = cluster.gateway("g1", "--keys", "redis"), cluster.gateway("g2")
    for gateway in (elsewhere, asks, forgets):
        gateway.wait_ready()
    cluster.server.kill()
    cluster.server.start()
    soon(lambda: says in before.errors(), 10)  # the warning comes at the next connect
    assert [each.errors().count(says) for each in (elsewhere, asks, forgets)] == [0, 0, 1]
    assert '"admits": "every caller"' in forgets.errors()


def test_unreadable_keys_are_waited_for_with_503(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    with cluster.server.client() as client:
        client.hset(RedisNames("main").api_keys, "abc", "{}")
        assert run(["keys", "list", "--redis", cluster.server.url]) == 1
        assert "Redis holds a key that this version cannot read: " in capfd.readouterr().err
        client.set(RedisNames("main").api_keys, "no hash")
    cluster.gateway("g1").wait_ready()
    keyed = cluster.gateway("g2", "--keys", "redis")
    url = keyed.wait_ready()
    ask = {
        "url": f"{url}/v1/generate",
        "json": {"prompt": "hi"},
        "headers": {"authorization": f"Bearer {new_key().text}"},
    }
    refused = httpx.post(**ask)  # type: ignore[arg-type]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert "WRONGTYPE" in keyed.errors()
    assert "WRONGTYPE" not in refused.text
    with cluster.server.client() as client:
        client.delete(RedisNames("main").api_keys)
    soon(lambda: httpx.post(**ask).status_code == 401)  # type: ignore[arg-type]


async def test_key_store_keeps_changes_and_reports_errors(any_server: RedisServer) -> None:
    async with trio.open_nursery() as nursery:
        link = RedisLink(any_server.url)
        await nursery.start(link.run)
        store = RedisKeyStore(link.call, "main")
        key = new_key()
        record = KeyRecord(id=key.id, tenant="acme", hash=key.digest, created=1.0)
        assert await store.records() == []
        await store.add(record)
        with pytest.raises(KeyStoreError, match="already"):
            await store.add(record)

        async def heavier() -> None:
            await store.change(key.id, lambda found: KeyRecord(**{**fields(found), "weight": found.weight + 1}))

        async with trio.open_nursery() as changing:
            for _ in range(8):
                changing.start_soon(heavier)
        (found,) = await store.records()
        assert found.weight == 9.0
        assert await RedisKeyStore(link.call, "elsewhere").records() == []
        nursery.cancel_scope.cancel(reason="done")


def fields(record: KeyRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("id", "tenant", "hash", "created", "weight")}


@pytest.mark.parametrize("announced", [True, False])
async def test_keyring_learns_of_changes_by_push_and_by_polling(any_server: RedisServer, *, announced: bool) -> None:
    async with trio.open_nursery() as nursery:

        def on_push(push: list[Any]) -> None:
            if announced:
                keyring.on_push(push)

        async def subscribe(call: Any) -> None:
            await call("SUBSCRIBE", keyring.channel)

        link = RedisLink(any_server.url, on_push=on_push, on_connect=subscribe)
        keyring = RedisKeyring(RedisKeyStore(link.call, "main"))
        await nursery.start(link.run)
        await keyring.refresh()
        nursery.start_soon(keyring.run)
        key = new_key()
        assert keyring.find(key.id) is None
        await RedisKeyStore(link.call, "main").add(KeyRecord(id=key.id, tenant="acme", hash=key.digest, created=1.0))
        with trio.fail_after(1.0):
            await keyring.wait_changed()
        assert keyring.find(key.id) is not None
        nursery.cancel_scope.cancel(reason="done")
