"""Outages of Redis and wrong settings, in the logs and metrics of every node."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer, redis_server
from tests.integration.cluster.conftest import Cluster
from tests.integration.cluster.test_redis_moods import send
from tests.integration.cluster.test_roles import Stream, ready
from tests.support.waiting import soon

pytestmark = pytest.mark.integration


def lines_of(node: NodeProcess, logger: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in node.errors().splitlines() if line.startswith("{")]
    return [line for line in found if line["logger"] == logger]


def lines(node: NodeProcess) -> list[dict[str, Any]]:
    """What the node's monitor logged."""
    return lines_of(node, "llmactors.redis")


def metrics(node: NodeProcess) -> dict[str, float]:
    text = httpx.get(f"{node.url}/metrics", timeout=10).text
    return {name: float(value) for name, value in re.findall(r"^(llmactors_redis_\S+) (\S+)$", text, re.MULTILINE)}


def begin(server: RedisServer, mood: str) -> None:
    with server.client() as client:
        match mood:
            case "connection":
                server.kill()
            case "NOREPLICAS":
                client.config_set("min-replicas-to-write", 1)
            case "OOM":
                client.config_set("maxmemory", 1)
            case "NOPERM":
                send(client, "ACL", "SETUSER", "default", "-zadd")


def end(server: RedisServer, mood: str) -> None:
    if mood == "connection":
        server.start()
        return
    with server.client() as client:
        client.config_set("min-replicas-to-write", 0)
        client.config_set("maxmemory", 0)
        send(client, "ACL", "SETUSER", "default", "+@all")


@pytest.fixture
def nodes(server: RedisServer) -> Iterator[list[NodeProcess]]:
    """A gateway and a worker on each kind of server."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(server, stack)
        found = [cluster.gateway("g1"), cluster.worker("w1")]
        for node in found:
            node.wait_ready()
        yield found


def losses(node: NodeProcess) -> list[dict[str, Any]]:
    """The lines of a node about what Redis has lost."""
    return [line for line in lines_of(node, "llmactors.ledger") if "has lost writes" in line["event"]]


@pytest.mark.parametrize("loss", ["restored", "extended"])
def test_lost_writes_are_one_line_and_a_metric(server: RedisServer, nodes: list[NodeProcess], loss: str) -> None:
    """Whatever Redis has lost of several answers, each of them goes on."""
    soon(lambda: ready(nodes[0].url))
    streams = [Stream(nodes[0].url, f"prompt {n}", max_tokens=60) for n in range(3)]
    logs = RedisNames("main").ledger(LedgerKey.LOG, "*")
    with server.client() as client:
        soon(lambda: len(list(client.scan_iter(logs))) == 3)
        time.sleep(0.2)
        if loss == "restored":
            client.flushall()
        else:
            server.stop()
            [file] = server.append_only_files()
            with file.open("r+b") as aof:
                aof.truncate(file.stat().st_size - 3_000)
            server.start()
    for stream in streams:
        stream.check()
    soon(lambda: any(map(losses, nodes)))
    time.sleep(1.2)  # the other node may say its loss a moment later
    found = [each for node in nodes for each in losses(node)]
    # Gateways write back requests and tokens, and workers write tokens again.
    assert len(found) <= len(nodes)
    assert sum(each[loss] for each in found) > 0
    for node in nodes:
        for outcome in ("restored", "extended", "ended"):
            shown = metrics(node)[f'llmactors_redis_losses_total{{outcome="{outcome}"}}']
            assert shown == sum(each[outcome] for each in losses(node))
    assert not any(each["ended"] for each in found)


@pytest.mark.parametrize("mood", ["connection", "NOREPLICAS", "OOM", "NOPERM"])
def test_outage_is_said_and_measured_on_all_nodes(server: RedisServer, nodes: list[NodeProcess], mood: str) -> None:
    begin(server, mood)
    for node in nodes:
        soon(lambda node=node: metrics(node)["llmactors_redis_available"] == 0)  # type: ignore[misc]
        assert httpx.get(f"{node.url}/readyz").status_code == 503
    time.sleep(1)  # the outage must have a length
    end(server, mood)
    for node in nodes:
        soon(lambda node=node: metrics(node)["llmactors_redis_available"] == 1)  # type: ignore[misc]
        soon(lambda node=node: len(lines(node)) == 2)  # type: ignore[misc]
        said = lines(node)
        events = [line["event"].partition(";")[0] for line in said]
        assert events == ["Redis is unavailable", "Redis is available again"]
        assert said[0]["kind"] == mood
        assert mood in said[0]["reason"] or mood == "connection"
        assert said[1]["after_s"] > 0.5
        shown = metrics(node)
        assert shown[f'llmactors_redis_outages_total{{reason="{mood}"}}'] == 1
        assert shown["llmactors_redis_outage_seconds_total"] > 0.5
        if mood != "connection":
            assert shown[f'llmactors_redis_error_replies_total{{kind="{mood}"}}'] >= 1


def test_wrong_settings_are_named_at_the_start_and_later(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendfsync", "everysec")
    with contextlib.ExitStack() as stack:
        cluster = Cluster(server, stack)
        for node in (cluster.gateway("g1"), cluster.worker("w1")):
            node.wait_ready()
            soon(lambda node=node: len(lines(node)) == 2)  # type: ignore[misc]
            assert {line["setting"] for line in lines(node)} == {"maxmemory-policy", "appendfsync"}
            assert "allkeys-lru" in lines(node)[0]["problem"]
            assert metrics(node)['llmactors_redis_wrong_settings{setting="appendfsync"}'] == 1


def test_forbidden_commands_of_operators_make_no_noise() -> None:
    with redis_server() as server, server.client() as client:
        words = ("ACL", "SETUSER", "app", "on", ">s3cret", "~llmactors:*", "&llmactors:*", "+@all", "-config", "-info")
        send(client, *words)
        url = f"redis://app:s3cret@127.0.0.1:{server.port}"
        with NodeProcess("gateway", "--bind", "127.0.0.1:0", "--redis", url) as node:
            node.wait_ready()
            time.sleep(2.5)
            assert lines(node) == []
            assert not any(name.startswith("llmactors_redis_error_replies") for name in metrics(node))


@pytest.mark.parametrize("name", ["config", "info"])
def test_renamed_commands_make_no_noise(name: str, tmp_path: Path) -> None:
    (tmp_path / "hosted.conf").write_text(f'rename-command {name} ""\n')
    with (
        redis_server(include=str(tmp_path / "hosted.conf")) as server,
        NodeProcess("gateway", "--bind", "127.0.0.1:0", "--redis", server.url) as node,
    ):
        node.wait_ready()
        time.sleep(1.5)
        assert lines(node) == []


def test_cluster_without_slots_is_explained() -> None:
    with (
        redis_server(cluster_enabled="yes") as server,
        NodeProcess("gateway", "--bind", "127.0.0.1:0", "--redis", server.url) as node,
    ):
        node.wait_ready()
        soon(lambda: len(lines(node)) == 2)
        said = {line["event"].partition(";")[0]: line for line in lines(node)}
        assert "16384" in said["a setting of Redis is wrong"]["problem"]
        assert said["Redis is unavailable"]["kind"] == "CLUSTERDOWN"
        assert "16384" in said["Redis is unavailable"]["reason"]
        with server.client() as client:
            send(client, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        soon(lambda: metrics(node)["llmactors_redis_available"] == 1)


def test_node_says_what_it_waits_for_at_the_start() -> None:
    with redis_server() as server:
        server.kill()
        with NodeProcess("gateway", "--bind", "127.0.0.1:0", "--redis", server.url) as node:
            node.wait_ready()
            soon(lambda: bool(lines(node)))
            assert "Connection refused" in lines(node)[0]["reason"]
            server.start()
            soon(lambda: lines(node)[-1]["event"] == "Redis is available again")
            assert len(lines(node)) == 2
