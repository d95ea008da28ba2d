"""Error replies of Redis, and Redis away at the start: nodes stay up, clients get 503, and accepted streams go on."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import attrs
import httpx
import pytest
import redis

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer, redis_server
from tests.integration.cluster.conftest import BINARIES, Cluster
from tests.integration.cluster.test_roles import Stream, ready
from tests.support.waiting import soon

pytestmark = pytest.mark.integration

NAMES = RedisNames("main")
BODY = {"prompt": "hi", "max_tokens": 3}
Mood = Callable[[redis.Redis], Callable[[], object]]
"""Puts a server into a mood, and returns a function that ends the mood."""


def send(client: redis.Redis, *words: str) -> None:
    client.execute_command(*words)  # type: ignore[no-untyped-call]


def acl(*rules: str) -> Mood:
    def begin(client: redis.Redis) -> Callable[[], object]:
        send(client, "ACL", "SETUSER", "default", *rules)
        return lambda: send(client, "ACL", "SETUSER", "default", "+@all", "~*", "&*")

    return begin


def config(name: str, value: str, normal: str) -> Mood:
    def begin(client: redis.Redis) -> Callable[[], object]:
        client.config_set(name, value)
        return lambda: client.config_set(name, normal)

    return begin


def wrong_type(pattern: str) -> Mood:
    """Every key of a pattern holds a string, until all of them are put back."""

    def begin(client: redis.Redis) -> Callable[[], object]:
        names = list(client.scan_iter(pattern))
        types = in_one_step(client, [("TYPE", name) for name in names])
        names = [name for name, found in zip(names, types, strict=True) if found != b"string"]
        # In one step: what a node writes between the two commands would be lost for good. And all keys at once, since a
        # node ends a request whose log cannot be read for three seconds.
        moves = [((b"RENAME", name, b"away:" + name), (b"SET", name, "x")) for name in names]
        moved = in_one_step(client, [command for move in moves for command in move])[::2]
        away = [name for name, found in zip(names, moved, strict=True) if not isinstance(found, redis.ResponseError)]
        gone = set(names).difference(away)  # the nodes deleted these keys meanwhile, so there was nothing to rename
        in_one_step(client, [("DEL", name) for name in gone])

        def end() -> None:
            in_one_step(client, [(b"RENAME", b"away:" + name, name) for name in away])

        return end

    return begin


def in_one_step(client: redis.Redis, commands: Sequence[tuple[bytes | str, ...]]) -> list[object]:
    """The replies to commands between which no other client has a turn. An error is a reply too."""
    step = client.pipeline(transaction=True)
    for command in commands:
        step.execute_command(*command)  # type: ignore[no-untyped-call]
    return step.execute(raise_on_error=False)


def deleted_live(client: redis.Redis) -> Callable[[], object]:
    """Somebody deletes the hashes of all workers with the lengths of the logs, in the middle of answers."""

    def hashes() -> list[bytes]:
        return list(client.scan_iter(NAMES.ledger(LedgerKey.LIVE, "*")))

    def answers_grow() -> bool:
        lines = [line.split() for name in hashes() for line in client.hvals(name)]
        return any(len(line) > 1 and int(line[1]) > 8 for line in lines)

    soon(answers_grow, what="that a running answer has nine tokens")
    for name in hashes():
        client.delete(name)
    return lambda: None


def flushed_functions(client: redis.Redis) -> Callable[[], object]:
    send(client, "FUNCTION", "FLUSH")
    return lambda: None


def replica(client: redis.Redis) -> Callable[[], object]:
    send(client, "REPLICAOF", "127.0.0.1", "1")
    return lambda: send(client, "REPLICAOF", "NO", "ONE")


MOODS: dict[str, Mood] = {
    "no writes": acl("-@write"),
    "no command": acl("-fcall", "-eval"),
    "no zadd": acl("-zadd"),
    "no hset": acl("-hset"),
    "no xadd": acl("-xadd"),
    "no hincrby": acl("-hincrby"),
    "no publish": acl("-publish"),
    "no subscribe": acl("-subscribe", "-function"),
    "no keys": acl("resetkeys"),
    "memory": config("maxmemory", "1", "0"),
    "replicas": config("min-replicas-to-write", "1", "0"),
    "replica": replica,
    "functions": flushed_functions,
    "deleted live": deleted_live,
    **{
        f"type of {key.value.name}": wrong_type(NAMES.ledger(key, *("*",) * len(key.value.parts)))
        for key in LedgerKey
        if key.value.type not in {"channel", "string"} and key is not LedgerKey.LIMIT
    },
    "type of nodes": wrong_type(NAMES.nodes),
    "type of node": wrong_type(NAMES.node("*")),
}


class Asker(threading.Thread):
    """Asks again and again for a short answer, and keeps what each answer was."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.answers: list[tuple[int, str, str]] = []
        self.done = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.done.set()
        self.join(40)

    def run(self) -> None:
        while not self.done.is_set():
            answer = httpx.post(f"{self.url}/v1/generate", json=BODY, timeout=40)
            self.answers.append((answer.status_code, answer.text, answer.headers.get("retry-after", "")))
            time.sleep(0.05)

    def check(self) -> None:
        """Asserts that each answer was a whole one, or a refusal in words of ours that says when to ask again."""
        assert not self.is_alive()
        for status, text, retry_after in self.answers:
            assert status in {200, 503}, text
            assert status == 200 or retry_after, text
            for word in ("script", "fcall", "NOPERM", "WRONGTYPE", "llmactors_", "ERR", "NOREPLICAS"):
                assert word not in text, text


@attrs.frozen
class Lasting:
    """A cluster for all moods of one kind of server."""

    server: RedisServer
    gateway: NodeProcess
    worker: NodeProcess


@pytest.fixture(scope="module")
def lasting() -> Iterator[list[Lasting]]:
    """One cluster on each kind of server. All moods use the same clusters."""
    with contextlib.ExitStack() as stack:
        found = []
        for binary in BINARIES.values():
            cluster = Cluster(stack.enter_context(redis_server(binary)), stack)
            found.append(Lasting(cluster.server, cluster.gateway("g1"), cluster.worker("w1")))
        for each in found:
            each.worker.wait_ready()
            url = each.gateway.wait_ready()
            soon(lambda url=url: ready(url))  # type: ignore[misc]
        yield found


@pytest.mark.parametrize("mood", MOODS)
def test_error_reply_ends_no_node_and_no_stream(lasting: list[Lasting], mood: str) -> None:
    """Every kind of server is in the mood at the same time."""
    with contextlib.ExitStack() as stack:
        streams = [Stream(each.gateway.url, f"prompt {n}", max_tokens=120) for each in lasting for n in range(4)]
        askers = [stack.enter_context(Asker(each.gateway.url)) for each in lasting]
        clients = [stack.enter_context(each.server.client()) for each in lasting]
        ends = [MOODS[mood](client) for client in clients]
        time.sleep(0.6)
        for end in ends:
            end()
        for stream in streams:
            stream.check()
        for each in lasting:
            soon(lambda each=each: generated(each.gateway.url))  # type: ignore[misc]
        for stream in streams:
            stream.check_log()
    for asker in askers:
        asker.check()
    for each in lasting:
        for node in (each.gateway, each.worker):
            assert node.process.poll() is None
            assert node.tracebacks() == []
        soon(lambda each=each: ready(each.gateway.url))  # type: ignore[misc]


def generated(url: str) -> bool:
    return httpx.post(f"{url}/v1/generate", json=BODY, timeout=40).status_code == 200


def test_nodes_wait_for_redis_at_the_start(moody: Cluster) -> None:
    moody.server.kill()
    gateway, worker = moody.gateway("g1"), moody.worker("w1")
    url, metrics = gateway.wait_ready(), worker.wait_ready()
    for node in (url, metrics):
        assert httpx.get(f"{node}/livez").status_code == 200
        answer = httpx.get(f"{node}/readyz")
        assert answer.status_code == 503
        assert "ledger" in answer.json()["problems"]
    refused = httpx.post(f"{url}/v1/generate", json=BODY, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in refused.headers
    moody.server.start()
    soon(lambda: ready(url))
    assert httpx.post(f"{url}/v1/generate", json=BODY, timeout=20).status_code == 200
    assert worker.stop() == gateway.stop() == 0


def test_late_redis_shows_that_a_name_is_taken(moody: Cluster) -> None:
    first = moody.worker("w1")
    first.wait_ready()
    with moody.server.client() as client:
        send(client, "ACL", "SETUSER", "late", "on", ">s3cret", "~*", "&*", "-@all", "+hello")
        url = f"redis://late:s3cret@127.0.0.1:{moody.server.port}"
        flags = ("--name", "w1", "--model", "mock", "--metrics-bind", "127.0.0.1:0", "--redis", url)
        with NodeProcess("worker", *flags) as second:
            second.wait_ready()
            send(client, "ACL", "SETUSER", "late", "+@all")
            assert second.process.wait(20) == 1
            assert "is already running" in json.loads(second.errors().splitlines()[-1])["event"]
    assert first.process.poll() is None
