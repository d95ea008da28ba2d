"""What happens to a whole machine: its lid is closed, `up` is killed, and nobody takes the output of any process.

These tests take long, and run with `--chaos-minutes`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from llmactors.testing.checker import check
from llmactors.testing.host import children_of, free_port, is_alive
from llmactors.testing.redis_server import redis_server
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from tests.chaos.runs import Chaos, wait_flowing
from tests.support.waiting import soon

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.timeout(900)]

STREAMS = ("closed", "gone", "unread", "full")
START_S = 240.0


@pytest.fixture(autouse=True)
def only_long(chaos: Chaos) -> None:
    if not chaos.is_long:
        pytest.skip("runs with --chaos-minutes")


@contextlib.contextmanager
def started(streams: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of llmactors whose stdout and stderr are closed, full, or pipes that nobody reads any more or ever."""
    command = [sys.executable, "-m", "llmactors", *arguments]
    if streams in {"closed", "full"}:
        redirect = ">&- 2>&-" if streams == "closed" else ">/dev/full 2>/dev/full"
        command = ["bash", "-c", f'exec "$@" {redirect}', "bash", *command]
    read, write = os.pipe()
    if streams == "gone":
        os.close(read)
    elif streams == "unread":
        # The pipe is full from the first line on.
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        os.set_blocking(write, True)
    # Where nothing is said, the output of pytest.
    output = {"stdout": write, "stderr": write} if streams in {"gone", "unread"} else {}
    with subprocess.Popen(command, env={**os.environ, "LLMACTORS_ACCESS_LOG": "true"}, **output) as process:  # type: ignore[call-overload]
        os.close(write)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if streams != "gone":
                os.close(read)


def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    return False


def generate(url: str) -> None:
    answer = httpx.post(f"{url}/v1/generate", json={"prompt": "hi", "max_tokens": 5}, timeout=30)
    assert answer.status_code == 200, answer.text


def ends_in_order(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0


@pytest.mark.parametrize("streams", STREAMS)
def test_output_of_nodes_stops_none_of_them(streams: str) -> None:
    """A gateway and a worker write a line for each request, and nobody takes it."""
    with redis_server() as server, contextlib.ExitStack() as stack:
        binds = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        shared = ("--redis", server.url, "--drain-s", "2")
        worker = started(streams, "worker", "--model", "mock", "--metrics-bind", binds[0], *shared)
        gateway = started(streams, "gateway", "--bind", binds[1], *shared)
        processes = [stack.enter_context(each) for each in (worker, gateway)]
        for bind in binds:
            soon(lambda bind=bind: is_ready(f"http://{bind}"), within_s=START_S)  # type: ignore[misc]
        for _ in range(100):
            generate(f"http://{binds[1]}")
        for process in processes:
            ends_in_order(process)


@pytest.mark.parametrize("streams", STREAMS)
def test_output_of_a_cluster_stops_no_process(streams: str, tmp_path: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    flags = ("--model", "mock", "--gateways", "1", "--workers", "1", "--metrics-bind", "127.0.0.1:0", "--drain-s", "2")
    with started(streams, "up", "--bind", bind, "--data-dir", str(tmp_path / "data"), *flags) as up:
        soon(lambda: is_ready(f"http://{bind}"), within_s=START_S)
        before = sorted(children_of(up.pid))
        for _ in range(100):
            generate(f"http://{bind}")
        assert sorted(children_of(up.pid)) == before
        ends_in_order(up)
        assert not any(map(is_alive, before))


async def test_lid_and_death_of_a_cluster_lose_nothing(chaos: Chaos, tmp_path: Path) -> None:
    """All processes stop at once, for up to a minute, and go on in any order. Then `up` is killed and started again."""
    rng = random.Random(chaos.tally.seed)
    bind = f"127.0.0.1:{free_port()}"
    flags = (
        "--model",
        "mock:step_ms=20,slots=32",
        "--gateways",
        "1",
        "--workers",
        "2",
        "--metrics-bind",
        "127.0.0.1:0",
    )
    command = ("up", "--bind", bind, "--data-dir", str(tmp_path / "data"), *flags)
    patient = LoadSettings(clients=24, max_tokens=150, silence_s=90, head_s=90, settle_s=90)
    load = StreamLoad(lambda: [f"http://{bind}"], patient, seed=chaos.tally.seed)

    async def wait_ready() -> None:
        await trio.to_thread.run_sync(lambda: soon(lambda: is_ready(f"http://{bind}"), within_s=START_S))

    pauses: list[float] = []
    async with trio.open_nursery() as nursery:
        with started("full", *command) as up:
            await wait_ready()
            nursery.start_soon(load.run)
            await load.wait_accepted(patient.clients)
            until = trio.current_time() + 0.3 * chaos.tally.minutes * 60
            while len(pauses) < 2 or trio.current_time() < until:
                processes = [up.pid, *children_of(up.pid)]
                for number in (signal.SIGSTOP, signal.SIGCONT):
                    rng.shuffle(processes)
                    for pid in processes:
                        os.kill(pid, number)
                    if number == signal.SIGSTOP:
                        pauses.append(rng.uniform(5, min(60, 5 + 30 * chaos.tally.minutes)))
                        await trio.sleep(pauses[-1])
                await wait_flowing(load, within_s=60)
            children = children_of(up.pid)
            up.kill()
            killed = time.monotonic()
        await trio.to_thread.run_sync(lambda: soon(lambda: not any(map(is_alive, children))))
        with started("full", *command) as up:
            await wait_ready()
            await wait_flowing(load, within_s=60)
            chaos.tally.notes.append(f"`up` was killed: its streams went on {time.monotonic() - killed:.1f} s later")
            load.stop()
            while load.history.open:  # noqa: ASYNC110 - the load has no event for its end
                await trio.sleep(0.1)
            ends_in_order(up)
    report = check(load.history, strikes={"pauses of the machine": len(pauses), "deaths of `up`": 1})
    chaos.tally.reports.append(report)
    assert not report.broken, str(report)
    assert not report.failures, str(report)
