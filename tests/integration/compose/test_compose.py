"""The stack of compose.yaml loses no token while its containers are killed and restarted under open streams."""

import time

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.integration.compose.stack import OpenStream, Stack
from tests.support.oracle import oracle
from tests.support.waiting import soon

# The first test builds the image and starts the stack.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

KILL_NODE = """
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"\\0worker\\0" in path.read_bytes() and path.parent.name not in {"1", str(os.getpid())}:
        os.kill(int(path.parent.name), 9)
"""
KILL_GATEWAY = """
import os, time
from llmactors.cli.keeping import running_keepers
while not (found := [keeper.status for keeper in running_keepers() if keeper.status.standby]):
    time.sleep(0.1)
os.kill(found[0].active, 9)
"""


def ended_whole(stream: OpenStream) -> None:
    """Asserts that a stream ended with `done` and the right text. `StreamRecord` has checked the seq of every event."""
    record = stream.whole()
    assert record.end_event == "done", record.end
    assert record.text == oracle(stream.prompt, stream.max_tokens)


def served_anew(url: str) -> None:
    reply = httpx.post(f"{url}/v1/generate", json={"prompt": "a new one", "max_tokens": 8}, timeout=30)
    assert reply.status_code == 200, reply.text
    assert reply.json()["text"] == oracle("a new one", 8)


def test_killed_worker_container_loses_no_token(stack: Stack) -> None:
    """The other worker continues the streams of the killed one."""
    streams = [OpenStream(stack.gateways[i % 2], f"one {i}", 400) for i in range(8)]
    stack.docker("kill", stack.containers("worker")[0])
    served_anew(stack.gateways[0])
    for stream in streams:
        ended_whole(stream)


def test_streams_survive_the_death_of_all_worker_containers(stack: Stack) -> None:
    """The open response waits for the restart of the workers, and continues."""
    stream = OpenStream(stack.gateways[0], "all", 400)
    stack.compose("kill", "worker")
    seen = len(stream.record.texts)
    assert stream.is_alive()
    stack.compose("start", "worker")
    ended_whole(stream)
    assert seen < 400
    served_anew(stack.gateways[1])


def test_engine_restarts_a_crashed_worker(stack: Stack) -> None:
    crashing = stack.containers("worker")[0]
    before = stack.inspect(crashing)["RestartCount"]
    stream = OpenStream(stack.gateways[0], "crash", 300)
    stack.docker("exec", crashing, "python", "-c", KILL_NODE, check=False)
    ended_whole(stream)
    soon(lambda: stack.inspect(crashing)["RestartCount"] > before, 60, what="the engine restarts the container")
    stack.wait_healthy()


def test_killed_ledger_keeps_all_it_acknowledged(stack: Stack) -> None:
    stream = OpenStream(stack.gateways[0], "ledger", 300)
    stack.compose("kill", "valkey")
    stack.compose("start", "valkey")
    ended_whole(stream)
    soon(lambda: httpx.get(f"{stack.gateways[1]}/readyz").is_success, 60, what="ready again")
    served_anew(stack.gateways[1])


def test_stopped_gateway_container_drains(stack: Stack) -> None:
    """After SIGTERM the gateway finishes its open stream and exits with 0; the other gateway serves meanwhile."""
    stream = OpenStream(stack.gateways[0], "drain", 200)
    (container,) = stack.containers("gateway-1")
    began = time.monotonic()
    stack.compose("stop", "gateway-1")
    assert time.monotonic() - began < 20, "it took longer than its drain"
    ended_whole(stream)
    assert stack.inspect(container)["State"]["ExitCode"] == 0
    served_anew(stack.gateways[1])


def test_killed_gateway_process_cuts_no_answer(stack: Stack) -> None:
    """OpenAI's client, which cannot resume, gets one answer on the connection that it has."""
    client = OpenAI(base_url=f"{stack.gateways[0]}/v1", api_key="none", max_retries=0)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one answer"}]
    whole = client.chat.completions.create(model="mock", messages=messages, max_tokens=200)
    found = ""
    chunks = client.chat.completions.create(model="mock", messages=messages, max_tokens=200, stream=True)
    for number, chunk in enumerate(chunks):
        found += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if number == 20:
            stack.compose("exec", "-T", "gateway-1", "python", "-c", KILL_GATEWAY)
    assert found == whole.choices[0].message.content


def test_upgrade_of_a_gateway_cuts_no_stream(stack: Stack) -> None:
    stream = OpenStream(stack.gateways[0], "upgraded", 400)
    assert "upgraded" in stack.compose("exec", "-T", "gateway-1", "llmactors", "upgrade")
    ended_whole(stream)


def test_prometheus_scrapes_every_node(stack: Stack) -> None:
    def targets() -> list[tuple[str, str]]:
        found = httpx.get(f"{stack.prometheus}/api/v1/targets").json()["data"]["activeTargets"]
        return sorted((target["labels"]["job"], target["health"]) for target in found)

    whole = [("gateway", "up")] * 2 + [("prometheus", "up")] + [("worker", "up")] * 2
    soon(lambda: targets() == whole, 60, what="every target is up")


def test_prometheus_has_the_rules(stack: Stack) -> None:
    def healths() -> set[str]:
        groups = httpx.get(f"{stack.prometheus}/api/v1/rules").json()["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    soon(lambda: healths() == {"ok"}, 60, what="that every rule was evaluated")


def test_image_says_its_version(stack: Stack) -> None:
    labels = stack.inspect(stack.containers("worker")[0])["Config"]["Labels"]
    said = [labels[f"org.opencontainers.image.{name}"] for name in ("title", "version", "revision")]
    assert said == ["llmactors", "1.2.3", "abcdef"]


def test_containers_run_without_privileges(stack: Stack) -> None:
    for service in ("gateway-1", "worker"):
        for container in stack.containers(service):
            assert stack.docker("exec", container, "id", "-u").strip() == "10001"
            assert stack.inspect(container)["HostConfig"]["ReadonlyRootfs"]
