"""`up` and `gateway` under a keeper: `kill -9` and upgrades of the gateway under ordinary clients."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

import llmactors
from llmactors.cli.keeping import running_keepers
from llmactors.cluster.local_cluster import free_port
from llmactors.keeper.status import status_of
from llmactors.testing.node import NodeProcess
from llmactors.testing.redis_server import RedisServer
from tests.support.kept_gateway import TOKENS, WITH_KEEPER, gateway_below_keeper, keeper_at, text_of, wait_takeover
from tests.support.waiting import soon

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a gateway under a keeper, with a worker beside it."""
    with gateway_below_keeper() as found:
        yield found


@pytest.mark.parametrize("how", ["kill", "upgrade"])
async def test_websocket_hears_each_message_once(url: str, how: str) -> None:
    """Twenty streams on one WebSocket of a plain client, over three gateways."""
    keeper = await trio.to_thread.run_sync(keeper_at, url)
    prompts = [f"{how} {number}" for number in range(20)]
    texts, prompt_of = dict.fromkeys(prompts, ""), {}
    seqs = dict.fromkeys(prompts, 0)
    ended = deaths = heard = 0
    async with trio_websocket.open_websocket_url(f"{url.replace('http', 'ws')}/v1/ws") as socket:
        for prompt in prompts:
            await socket.send_message(
                json.dumps({"op": "generate", "prompt": prompt, "max_tokens": TOKENS, "ref": prompt})
            )
        while ended < len(prompts):
            with trio.fail_after(60):
                event = json.loads(await socket.get_message())
            if event["event"] == "accepted":
                prompt_of[event["id"]] = event["ref"]
            elif event["event"] in {"token", "done"}:
                prompt = prompt_of[event["id"]]
                seqs[prompt] += 1
                assert event["seq"] == seqs[prompt]
                texts[prompt] += event.get("text", "")
                ended += event["event"] == "done"
                heard += 1
            if heard >= 300 * (deaths + 1) and deaths < 2:
                deaths += 1
                if deaths == 2:
                    keeper = await trio.to_thread.run_sync(keeper_at, url)
                os.kill(*(keeper.status.active, signal.SIGKILL) if how == "kill" else (keeper.pid, signal.SIGUSR2))
        assert texts == {prompt: text_of(prompt) for prompt in prompts}
        await trio.to_thread.run_sync(wait_takeover, keeper)
        await socket.ping(b"still there")


@pytest.mark.keeper
def test_kept_alive_connection_outlives_many_gateways(url: str) -> None:
    addresses = set()
    with httpx.Client(timeout=20.0, limits=httpx.Limits(keepalive_expiry=None)) as client:
        for turn in range(3):
            keeper = keeper_at(url)
            os.kill(keeper.status.active, signal.SIGKILL)
            answer = client.post(f"{url}/v1/generate", json={"prompt": f"turn {turn}", "max_tokens": 5})
            assert answer.json()["text"] == text_of(f"turn {turn}", 5)
            addresses.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(addresses) == 1


@pytest.mark.keeper
def test_idle_gateway_is_not_taken_for_a_frozen_one(url: str) -> None:
    keeper = keeper_at(url)
    time.sleep(6.0)
    assert status_of(keeper.pid) == keeper.status


@pytest.mark.keeper
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_stream_outlives_a_gateway_that_does_not_die_by_itself(url: str, how: str) -> None:
    """A stop by SIGSTOP, and a crash of the gateway's actor in a process that would live on."""
    keeper = keeper_at(url)
    body = {"prompt": how, "stream": True, "max_tokens": TOKENS}
    with httpx.Client(timeout=60.0) as client, client.stream("POST", f"{url}/v1/generate", json=body) as answer:
        found = answer.iter_lines()
        output = [next(found) for _ in range(12)]
        if how == "stop":
            os.kill(keeper.status.active, signal.SIGSTOP)
        else:
            crash = httpx.post(f"{url}/v1/operator/drills/crash-actor", json={"actor": "node/http/gateway"})
            assert crash.status_code == 200, crash.text
        output += found
    assert "".join(line.partition('"text":"')[2][:-2] for line in output) == text_of(how)
    wait_takeover(keeper)


def gateways_of(url: str) -> list[dict[str, Any]]:
    nodes = httpx.get(f"{url}/v1/operator/nodes").json()["nodes"]
    return [node for node in nodes if node["roles"] == ["gateway"]]


@pytest.mark.keeper
@pytest.mark.parametrize("how", ["kill", "upgrade"])
def test_gateway_without_a_chosen_name_keeps_its_name_and_cordon(how: str) -> None:
    """It is named after its keeper, so that what operators said of it holds for the next gateway."""
    with gateway_below_keeper() as url:
        keeper = keeper_at(url)
        name = f"gateway-{socket.gethostname()}-{keeper.pid}"
        soon(lambda: [node["name"] for node in gateways_of(url)] == [name], 60.0)
        assert httpx.post(f"{url}/v1/operator/nodes/{name}/drain", json={}).status_code == 200
        soon(lambda: "drained this node" in httpx.get(f"{url}/readyz").text, 60.0)
        os.kill(*(keeper.status.active, signal.SIGKILL) if how == "kill" else (keeper.pid, signal.SIGUSR2))
        wait_takeover(keeper)
        assert "drained this node" in httpx.get(f"{url}/readyz").text
        assert httpx.post(f"{url}/v1/generate", json={"prompt": "no", "max_tokens": 1}).status_code == 503
        soon(lambda: [(node["name"], node["cordoned"]) for node in gateways_of(url)] == [(name, True)], 60.0)
        assert httpx.post(f"{url}/v1/operator/nodes/{name}/uncordon", json={}).status_code == 200
        soon(lambda: httpx.get(f"{url}/readyz").status_code == 200, 60.0)


@pytest.mark.keeper
def test_command_upgrade_waits_for_the_outcome(url: str) -> None:
    before = keeper_at(url)
    done = subprocess.run(
        [sys.executable, "-m", "llmactors", "upgrade", url], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    after = status_of(before.pid)
    assert after is not None
    assert done.stdout == f"{url}: upgraded, gateway {after.active}\n"
    assert after.active not in before.status[:2]


@pytest.mark.keeper
def test_upgrade_with_a_wrong_setting_changes_nothing(tmp_path: Path) -> None:
    """The new gateway does not start: the old one goes on, and the command says so."""
    file = tmp_path / "settings.toml"
    file.write_text("drain_s = 5\n")
    url = f"http://127.0.0.1:{free_port()}"
    with RedisServer() as redis:
        flags = ("--bind", url.removeprefix("http://"), "--redis", redis.url, "--config", str(file))
        with NodeProcess("gateway", *flags, environ=WITH_KEEPER) as node:
            node.wait_ready()
            before = keeper_at(url)
            file.write_text("drain_s = 'long'\n")
            done = subprocess.run(
                [sys.executable, "-m", "llmactors", "upgrade", url], capture_output=True, text=True, check=False
            )
            after = status_of(before.pid)
            assert after is not None
            assert (done.returncode, after[:2]) == (1, before.status[:2])
            assert "not upgraded: the gateway" in done.stdout
            assert httpx.get(f"{url}/metrics").status_code == 200


@pytest.mark.keeper
def test_version_that_writes_otherwise_goes_on(tmp_path: Path) -> None:
    """Each token comes once, in the form of the old version or of the new one."""
    copy = tmp_path / "llmactors"
    shutil.copytree(Path(llmactors.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    url = f"http://127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        of_worker = ("--model", "mock:step_ms=25", "--metrics-bind", "127.0.0.1:0", "--redis", redis.url)
        stack.enter_context(NodeProcess("worker", *of_worker))
        flags = ("--bind", url.removeprefix("http://"), "--redis", redis.url)
        gateway = NodeProcess("gateway", *flags, environ=WITH_KEEPER, prefix=("env", "-C", str(tmp_path)))
        stack.enter_context(gateway).wait_ready()
        soon(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        keeper_at(url)
        client = stack.enter_context(httpx.Client(timeout=60.0))
        body = {"prompt": "new", "stream": True, "max_tokens": 4000}
        answer = stack.enter_context(client.stream("POST", f"{url}/v1/generate", json=body))
        lines = answer.iter_lines()
        output = [next(lines) for _ in range(12)]
        events = copy / "gateway" / "native" / "events.py"
        events.write_text(events.read_text().replace(',"text":%b}', ', "text": %b, "new": true}'))
        subprocess.run([sys.executable, "-m", "llmactors", "upgrade", url], check=True, timeout=60)
        while '"new"' not in output[-1] and output[-1] != "event: done":
            output.append(next(lines))
    tokens = [json.loads(line.removeprefix("data: ")) for line in output if line.startswith("data: ")]
    assert [event["seq"] for event in tokens] == list(range(1, len(tokens) + 1))
    assert "".join(event["text"] for event in tokens) == text_of("new", len(tokens))
    assert ["new" in event for event in tokens] == [False] * (len(tokens) - 1) + [True]


@pytest.mark.keeper
def test_up_runs_gateways_under_keepers(tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    flags = ("--gateways", "1", "--workers", "1", "--model", "mock:step_ms=25", "--metrics-bind", "127.0.0.1:0")
    with NodeProcess("up", *flags, "--bind", bind, "--data-dir", str(tmp_path), environ=WITH_KEEPER) as node:
        keeper = keeper_at(f"http://{bind}")
        with httpx.Client(timeout=30.0) as client:
            body = {"prompt": "up", "stream": True, "max_tokens": TOKENS}
            with client.stream("POST", f"http://{bind}/v1/generate", json=body) as answer:
                lines = answer.iter_lines()
                output = [next(lines) for _ in range(12)]
                os.kill(keeper.status.active, signal.SIGKILL)
                output += lines
        assert "".join(line.partition('"text":"')[2][:-2] for line in output) == text_of("up")
        wait_takeover(keeper)
        assert node.stop() == 0
    assert all(found.pid != keeper.pid for found in running_keepers())


@pytest.mark.keeper
def test_mistake_is_one_line(tmp_path: Path) -> None:
    with RedisServer() as redis:
        flags = ("--bind", "127.0.0.1:0", "--redis", redis.url, "--keys", str(tmp_path / "missing"))
        done = subprocess.run(
            [sys.executable, "-m", "llmactors", "gateway", *flags],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **WITH_KEEPER, "LLMACTORS_LOG_FORMAT": "text"},
            timeout=60,
        )
    assert done.returncode in {1, 2}
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.keeper
@pytest.mark.parametrize("keys", [None, "redis"])
def test_begun_answers_wait_for_redis_through_a_takeover(tmp_path: Path, keys: str | None) -> None:
    """Redis ends, then the gateway, and then Redis comes back."""
    with RedisServer(appendfsync="always") as redis:
        flags = ("--bind", "127.0.0.1:0", "--redis", redis.url, *(("--keys", keys) if keys else ()))
        gateway = NodeProcess("gateway", *flags, environ=WITH_KEEPER)
        worker = NodeProcess("worker", "--model", "mock:step_ms=50", "--metrics-bind", "", "--redis", redis.url)
        with gateway as node, worker, httpx.Client(timeout=60.0) as client:
            url = node.wait_ready()
            if keys:
                create = ("keys", "create", "--keys", "redis", "--redis", redis.url, "--tenant", "acme")
                made = subprocess.run(
                    [sys.executable, "-m", "llmactors", *create], capture_output=True, text=True, check=True
                )
                client.headers["x-api-key"] = made.stdout.strip()
            end = time.monotonic() + 60.0
            while client.get(f"{url}/readyz").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
            keeper = keeper_at(url)
            body = {"prompt": "away", "max_tokens": TOKENS, "stream": True}
            chat = {"messages": [{"role": "user", "content": "away"}], "max_tokens": TOKENS, "n": 2, "stream": True}
            with (
                client.stream("POST", f"{url}/v1/generate", json=body) as native,
                client.stream("POST", f"{url}/v1/chat/completions", json={"model": "mock", **chat}) as several,
                ThreadPoolExecutor() as threads,
            ):
                whole = threads.submit(client.post, f"{url}/v1/generate", json={**body, "stream": False})
                texts = native.iter_text()
                found = next(texts) + next(texts)
                chunks = several.iter_text()
                others = next(chunks) + next(chunks)
                redis.kill()
                os.kill(keeper.status.active, signal.SIGKILL)
                wait_takeover(keeper)
                time.sleep(3.0)
                redis.start()
                found += "".join(texts)
                others += "".join(chunks)
            streamed = [json.loads(line[6:]) for line in found.splitlines() if line.startswith("data: ")]
            assert "".join(event.get("text", "") for event in streamed) == text_of("away")
            assert others.count('"finish_reason":"') == 2
            assert others.endswith("data: [DONE]\n\n")
            assert whole.result().json()["text"] == text_of("away")


@pytest.mark.keeper
def test_gateway_that_never_saw_a_worker_accepts_requests_for_it() -> None:
    """It started behind the end of the last worker, and its predecessor would accept them."""
    with RedisServer(appendfsync="always") as redis, ThreadPoolExecutor() as threads:
        flags = ("--bind", "127.0.0.1:0", "--redis", redis.url, "--worker-grace-s", "120")
        worker = NodeProcess("worker", "--model", "mock", "--metrics-bind", "", "--redis", redis.url)
        with NodeProcess("gateway", *flags, environ=WITH_KEEPER) as node:
            url = node.wait_ready()
            with worker:
                end = time.monotonic() + 60.0
                while httpx.get(f"{url}/readyz").status_code != 200:
                    assert time.monotonic() < end
                    time.sleep(0.05)
            before = keeper_at(url).status.standby
            os.kill(before, signal.SIGKILL)
            end = time.monotonic() + 60.0
            while (found := keeper_at(url)).status.standby == before:
                assert time.monotonic() < end
            os.kill(found.status.active, signal.SIGKILL)
            models = threads.submit(httpx.get, f"{url}/v1/models", timeout=60.0)
            ready = threads.submit(httpx.get, f"{url}/readyz", timeout=60.0)
            body = {"prompt": "waits", "max_tokens": 5}
            asked = [threads.submit(httpx.post, f"{url}/v1/generate", json=body, timeout=60.0) for _ in range(3)]
            wait_takeover(found)
            with NodeProcess("worker", "--model", "mock", "--metrics-bind", "", "--redis", redis.url):
                assert [each.result().status_code for each in asked] == [200] * 3
            assert [each["id"] for each in models.result().json()["data"]] == ["mock"]
            assert ready.result().status_code == 200


@pytest.mark.keeper
@pytest.mark.parametrize("asks", [True, False])
def test_next_gateway_has_the_reloaded_settings(tmp_path: Path, asks: bool) -> None:
    """SIGHUP to the keeper reaches the gateway, and the standby reads the file again when it takes over."""
    file = tmp_path / "settings.toml"
    file.write_text("")
    url = f"http://127.0.0.1:{free_port()}"
    with RedisServer() as redis:
        flags = ("--bind", url.removeprefix("http://"), "--redis", redis.url, "--config", str(file))
        with NodeProcess("gateway", *flags, environ=WITH_KEEPER) as node:
            node.wait_ready()
            keeper = keeper_at(url)
            origin = {"origin": "https://chat.example.com", "access-control-request-method": "POST"}
            assert httpx.options(f"{url}/v1/generate", headers=origin).status_code == 403
            file.write_text("allowed_origins = ['https://chat.example.com']\n")
            if asks:
                os.kill(keeper.pid, signal.SIGHUP)
                end = time.monotonic() + 20.0
                while httpx.options(f"{url}/v1/generate", headers=origin).status_code == 403:
                    assert time.monotonic() < end
                    time.sleep(0.05)
            os.kill(keeper.status.active, signal.SIGKILL)
            wait_takeover(keeper)
            assert httpx.options(f"{url}/v1/generate", headers=origin).status_code != 403
