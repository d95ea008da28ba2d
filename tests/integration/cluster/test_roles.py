"""Gateways and workers as real processes: their output, and the effects when one of them ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trio

from llmactors.backends.mock.oracle import mock_text
from llmactors.cli.top_sources import Snapshot, open_source
from llmactors.config import Settings
from llmactors.http.sse_reader import SseReader
from llmactors.messages import GenerateRequest
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer, redis_server
from tests.integration.cluster.conftest import Cluster
from tests.support.waiting import soon

pytestmark = pytest.mark.integration


def llmactors(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmactors", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "COLUMNS": "200", "LLMACTORS_LOG_FORMAT": "console", **environ},
    )


class Stream(threading.Thread):
    """One SSE stream, which a thread reads."""

    def __init__(self, url: str, prompt: str = "hi", max_tokens: int = 100) -> None:
        super().__init__(daemon=True)
        self.url, self.prompt, self.max_tokens = url, prompt, max_tokens
        self.events: list[dict[str, Any]] = []
        self.start()
        soon(lambda: bool(self.events), 40.0, what="that the stream has begun")

    def run(self) -> None:
        body = {"prompt": self.prompt, "max_tokens": self.max_tokens, "stream": True}
        with httpx.stream("POST", f"{self.url}/v1/generate", json=body, timeout=40) as response:
            reader = SseReader()
            for piece in response.iter_bytes():
                for event in reader.feed(piece):
                    if event.name != "queued":  # is in no log, and tells of the wait for a takeover
                        self.events.append(json.loads(event.data))

    def check(self) -> None:
        """Asserts that the stream ended once, with each token of an undisturbed run once."""
        self.join(40)
        assert not self.is_alive()
        *tokens, done = self.events
        assert [event["seq"] for event in self.events] == list(range(1, self.max_tokens + 2)), self.events[-3:]
        assert done.get("finish_reason") == "length", done
        request = GenerateRequest(id="", model="mock", prompt=self.prompt, max_tokens=self.max_tokens)
        assert "".join(event["text"] for event in tokens) == mock_text(request)

    def check_log(self) -> None:
        """Asserts that the log in the ledger says what the client was sent."""
        answer = httpx.get(f"{self.url}/v1/streams/{self.events[0]['id']}?after=0", timeout=40)
        assert answer.status_code == 200, answer.text
        assert [json.loads(event.data) for event in SseReader().feed(answer.content)] == self.events


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz").status_code == 200


def test_gateway_is_unready_until_a_worker_serves(cluster: Cluster) -> None:
    gateway = cluster.gateway("g1", "--worker-grace-s", "0.5")
    url = gateway.wait_ready()
    body = {"prompt": "hi", "max_tokens": 2}
    answer = httpx.get(f"{url}/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (503, {"workers": "no worker has joined yet"})
    refused = httpx.post(f"{url}/v1/generate", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert refused.json()["error"]["message"] == "no worker has joined yet"
    assert "retry-after" in refused.headers

    worker = cluster.worker("w1")
    metrics = worker.wait_ready()
    soon(lambda: ready(url))
    assert httpx.post(f"{url}/v1/generate", json=body).status_code == 200
    assert httpx.post(f"{url}/v1/generate", json={**body, "model": "other"}).status_code == 404
    assert httpx.get(f"{url}/healthz").status_code == 200

    assert ready(metrics)
    shown = httpx.get(f"{metrics}/metrics").text
    assert "llm_worker_tokens_generated_total 2.0" in shown
    for link in ("ledger", "directory"):
        assert f'llmactors_redis_up{{link="{link}"}} 1.0' in shown
        assert f'llmactors_redis_connects_total{{link="{link}"}} 1.0' in shown
    assert httpx.get(f"{metrics}/livez").json() == {"status": "ok"}
    assert httpx.get(f"{metrics}/v1/tree").json()["name"] == "node"
    of_worker = trio.run(_look_at, Settings(), metrics)
    assert ([node.name for node in of_worker.nodes], of_worker.requests) == (["w1"], None)
    assert httpx.get(f"{metrics}/v1/generate").status_code == 404
    assert httpx.post(f"{metrics}/metrics").status_code == 405

    assert worker.stop() == 0
    soon(lambda: not ready(url))
    gone = httpx.post(f"{url}/v1/generate", json=body)
    assert (gone.status_code, gone.json()["error"]["message"]) == (503, 'no worker serves "mock" at the moment')
    assert "retry-after" in gone.headers


@pytest.mark.parametrize("how", ["sigterm", "drain"])
def test_requests_of_a_drained_worker_move_at_once(cluster: Cluster, how: str) -> None:
    url = cluster.gateway("g1").wait_ready()
    first = cluster.worker("w1")
    first.wait_ready()
    soon(lambda: ready(url))
    streams = [Stream(url, f"prompt {number}") for number in range(5)]
    cluster.worker("w2").wait_ready()
    if how == "sigterm":
        assert first.stop() == 0
    else:
        done = llmactors("drain", "w1", "--redis", cluster.server.url)
        expected = "worker w1 is drained, and takes no work until `uncordon w1`\n"
        assert (done.returncode, done.stdout) == (0, expected)
        assert first.process.poll() is None
    for stream in streams:
        stream.check()
        details = httpx.get(f"{url}/v1/operator/requests/{stream.events[0]['id']}").json()
        # The first worker has handed each request back, and nobody waited for the end of its lease.
        assert [claim["cause"] for claim in details["claims"]] == ["handed_back", None], details
    assert first.tracebacks() == []


def test_requests_of_a_killed_worker_continue_elsewhere(cluster: Cluster) -> None:
    url = cluster.gateway("g1").wait_ready()
    first = cluster.worker("w1")
    first.wait_ready()
    soon(lambda: ready(url))
    streams = [Stream(url, f"prompt {number}") for number in range(5)]
    cluster.worker("w2").wait_ready()
    first.stop(signal.SIGKILL)
    for stream in streams:
        stream.check()
    cluster.worker("w1").wait_ready()  # the name is free again


def test_requests_wait_for_the_only_worker_to_return(cluster: Cluster) -> None:
    url = cluster.gateway("g1").wait_ready()
    first = cluster.worker("w1")
    first.wait_ready()
    soon(lambda: ready(url))
    assert first.stop() == 0
    time.sleep(1.1)
    waiting = threading.Thread(target=lambda: cluster.worker("w1").wait_ready())
    waiting.start()
    answer = httpx.post(f"{url}/v1/generate", json={"prompt": "hi", "max_tokens": 3}, timeout=20)
    waiting.join()
    assert answer.status_code == 200


def test_draining_gateway_cuts_only_streams_past_the_drain_time(cluster: Cluster) -> None:
    gateway = cluster.gateway("g1", "--drain-s", "1")
    url = gateway.wait_ready()
    cluster.worker("w1").wait_ready()
    soon(lambda: ready(url))
    short, long = Stream(url, max_tokens=20), Stream(url, "other", max_tokens=400)
    assert gateway.stop() == 0
    short.check()
    long.join(5)
    assert long.events[-1]["error"]["code"] == "UNAVAILABLE"
    # The request itself goes on, so another gateway can serve the whole stream.
    other = cluster.gateway("g2").wait_ready()
    request_id, seq = long.events[-2]["id"], long.events[-2]["seq"]
    rest = httpx.get(f"{other}/v1/streams/{request_id}?after={seq}", timeout=20)
    assert rest.status_code == 200
    found = [event for event in SseReader().feed(rest.content) if event.name != "queued"]
    events = [json.loads(event.data) for event in found]
    assert [event["seq"] for event in events] == list(range(seq + 1, 402))


def test_redis_outage_restarts_no_actor(cluster: Cluster) -> None:
    gateway, worker = cluster.gateway("g1"), cluster.worker("w1")
    url, metrics = gateway.wait_ready(), worker.wait_ready()
    soon(lambda: ready(url))
    stream = Stream(url, max_tokens=120)
    cluster.server.kill()
    soon(lambda: not ready(url))
    assert httpx.get(f"{url}/readyz").json()["problems"] == {"ledger": "the ledger is away"}
    assert "ledger" in httpx.get(f"{metrics}/readyz").json()["problems"]
    assert httpx.get(f"{url}/metrics", timeout=10).status_code == 200
    refused = httpx.post(f"{url}/v1/generate", json={"prompt": "hi"}, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in refused.headers
    time.sleep(2)
    cluster.server.start()
    stream.check()
    soon(lambda: ready(url))
    for node in (url, metrics):
        assert set(_restarts(httpx.get(f"{node}/v1/tree").json())) == {0}


def test_nodes_shut_down_while_redis_is_away(cluster: Cluster) -> None:
    gateway, worker = cluster.gateway("g1", "--drain-s", "1"), cluster.worker("w1", "--drain-s", "1")
    url = gateway.wait_ready()
    worker.wait_ready()
    soon(lambda: ready(url))
    stream = Stream(url, max_tokens=1000)
    cluster.server.kill()
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 8
    assert gateway.stop() == 0
    stream.join(5)
    assert stream.events[-1]["error"]["code"] == "UNAVAILABLE"


def _restarts(tree: dict[str, Any]) -> Iterator[int]:
    yield tree["restarts"]
    for child in tree.get("children", ()):
        yield from _restarts(child)


def test_thawed_node_whose_name_was_taken_exits(cluster: Cluster) -> None:
    old = cluster.worker("w1")
    old.wait_ready()
    old.process.send_signal(signal.SIGSTOP)
    new = cluster.worker("w1")
    began = time.monotonic()
    new.wait_ready()
    assert time.monotonic() - began < 5.5
    old.process.send_signal(signal.SIGCONT)
    assert old.process.wait(15) == 1
    last = json.loads(old.errors().splitlines()[-1])
    assert last["level"] == "critical"
    assert last["event"].startswith('a node named "w1" is already running: worker on ')
    assert new.process.poll() is None


def test_second_node_of_one_name_does_not_start(cluster: Cluster) -> None:
    first = cluster.worker("w1")
    first.wait_ready()
    second = llmactors("gateway", "--name", "w1", "--bind", "127.0.0.1:0", LLMACTORS_REDIS=cluster.server.url)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == (
        f'llmactors: a node named "w1" is already running: worker on {os.uname().nodename}, pid {first.process.pid}'
    )
    assert first.process.poll() is None


def test_tree_command_shows_the_whole_cluster(cluster: Cluster) -> None:
    cluster.gateway("g1").wait_ready()
    cluster.worker("w1").wait_ready()
    shown = llmactors("tree", "--cluster", "--redis", cluster.server.url).stdout
    for part in ("g1  gateway  up 0:0", "w1  worker  up 0:0", "running 0/16", "batcher:mock", "reaper"):
        assert part in shown
    found = json.loads(llmactors("tree", "--cluster", "--json", "--redis", cluster.server.url).stdout)
    assert [each["node"]["name"] for each in found] == ["g1", "w1"]
    assert found[0]["tree"]["name"] == "node"
    snapshot = trio.run(_look_at, Settings(redis=cluster.server.url))
    assert [node.name for node in snapshot.nodes] == ["g1", "w1"]
    assert [(model.name, model.state, model.slots) for model in snapshot.models or ()] == [("mock", "ready", 16)]
    assert snapshot.requests_total == 0
    unknown = llmactors("drain", "w9", "--redis", cluster.server.url)
    assert (unknown.returncode, unknown.stderr) == (1, 'llmactors: there is no node "w9"; there are: g1, w1\n')


async def _look_at(settings: Settings, url: str = "") -> Snapshot:
    async with open_source(settings, url, None) as source:
        return await source.look()


def test_dead_letters_are_listed_requeued_and_purged(cluster: Cluster) -> None:
    redis = ("--redis", cluster.server.url)
    assert llmactors("queue", "dead", *redis).stdout == "there are no dead letters\n"
    url = cluster.gateway("g1").wait_ready()
    worker = cluster.worker("w1", model="mock=mock:step_ms=5,crash_at=3,crash_prompt=poison")
    worker.wait_ready()
    soon(lambda: ready(url))
    for prompt in ("poison", "more poison"):
        body = {"prompt": prompt, "max_tokens": 9}
        assert httpx.post(f"{url}/v1/generate", json=body, timeout=40).json()["error"]["code"] == "POISONED"
    assert "dead letters 2" in llmactors("queue", *redis).stdout
    shown = llmactors("queue", "dead", *redis).stdout
    ids = [line.split()[0] for line in shown.splitlines() if "req_" in line]
    told = json.loads(llmactors("queue", "dead", "--json", *redis).stdout)
    assert [letter["id"] for letter in told["dead_letters"]] == ids[::-1]
    assert len(ids) == 2
    assert "poison" not in shown

    assert worker.stop() == 0
    again = llmactors("queue", "requeue", ids[0], *redis)
    assert again.returncode == 0, again.stderr
    new_id = again.stdout.rpartition("/")[2].strip()
    depth = llmactors("queue", "show", *redis).stdout
    assert "waiting 1, running 0" in depth
    assert "dead letters 1" in depth
    assert ["mock", "1", "1"] in [line.split() for line in depth.splitlines()]
    cluster.worker("w2", model="mock=mock:step_ms=5").wait_ready()
    with httpx.stream("GET", f"{url}/v1/streams/{new_id}", timeout=20) as response:
        assert '"finish_reason":"length"' in response.read().decode()
    assert llmactors("queue", "purge", *redis).stdout == "forgot 1 dead letters\n"
    for command in ("requeue", "purge"):
        unknown = llmactors("queue", command, ids[1], *redis)
        assert (unknown.returncode, unknown.stderr) == (1, f"llmactors: there is no dead letter {ids[1]}\n")


MISTAKES = [
    (["gateway", "--bind", "127.0.0.1:0"], 2, "say where Redis is"),
    (["worker", "--metrics-bind", ""], 2, "say where Redis is"),
    (["gateway", "--redis", "http://127.0.0.1", "--bind", "127.0.0.1:0"], 2, "must begin with redis://"),
    (["worker", "--redis", "redis://127.0.0.1:1", "--metrics-bind", "", "--model", "no.gguf"], 1, "no model file"),
    (["worker", "--redis", "redis://127.0.0.1:1", "--metrics-bind", "9100"], 2, "`metrics_bind` must be HOST:PORT"),
    (["gateway", "--redis", "redis://127.0.0.1:1", "--name", "a b"], 2, "`name` must be"),
    (["drain", "w1"], 2, "say where Redis is"),
    (["drain", "w1", "--redis", "redis://127.0.0.1:1"], 1, "Connection refused"),
    (["queue", "--redis", "redis://127.0.0.1:1"], 1, "Connection refused"),
    (["queue", "dead", "--redis", "http://x"], 2, "redis://"),
    (["tree", "--cluster", "--redis", "redis://127.0.0.1:1"], 1, "Connection refused"),
    (["up", "--workers", "0"], 2, "at least one"),
    (["up", "--model", "no.gguf"], 1, "no model file"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), MISTAKES, ids=lambda value: str(value)[:60])
def test_usage_error_is_one_line_with_its_exit_code(arguments: list[str], code: int, says: str) -> None:
    result = llmactors(*arguments)
    assert result.returncode == code
    assert result.stderr.startswith("llmactors: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_wrong_redis_password_is_one_line() -> None:
    with redis_server(requirepass="secret") as server:
        wrong = f"redis://:wrong@127.0.0.1:{server.port}"
        for arguments in (["gateway", "--bind", "127.0.0.1:0"], ["worker", "--model", "mock", "--metrics-bind", ""]):
            result = llmactors(*arguments, "--redis", wrong)
            assert result.returncode == 1
            assert result.stderr.splitlines()[-1] == (
                f"llmactors: Redis at 127.0.0.1:{server.port} does not accept the password"
            )
        right = f"redis://:secret@127.0.0.1:{server.port}"
        with NodeProcess("gateway", "--bind", "127.0.0.1:0", environ={"LLMACTORS_REDIS": right}) as process:
            process.wait_ready()
            assert process.stop() == 0


def test_namespaces_do_not_share_work(any_server: RedisServer) -> None:
    flags = ("--bind", "127.0.0.1:0", "--redis", any_server.url)
    with (
        NodeProcess("gateway", *flags, "--namespace", "a") as gateway,
        NodeProcess(
            "worker", "--redis", any_server.url, "--model", "mock", "--metrics-bind", "127.0.0.1:0", "--namespace", "b"
        ) as worker,
    ):
        url = gateway.wait_ready()
        worker.wait_ready()
        time.sleep(1.2)
        assert httpx.get(f"{url}/readyz").json()["problems"] == {"workers": "no worker has joined yet"}
