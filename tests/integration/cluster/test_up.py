"""`llmactors up` runs a whole cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from llmactors.testing.host import children_of, is_alive
from llmactors.testing.tracebacks import tracebacks_in

pytestmark = pytest.mark.integration

OWN_PHASES = ["gateways", "workers", "stop"]


class Up:
    """The process of `llmactors up`, with its output in files."""

    def __init__(self, directory: Path, *flags: str, data: Path | None = None) -> None:
        self._out, self._err = directory / "out", directory / "err"
        command = [sys.executable, "-m", "llmactors", "up", "--bind", "127.0.0.1:0", "--model", "mock:step_ms=20"]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(data or directory / "data"), *flags],
                stdout=out,
                stderr=err,
                env={**os.environ, "LLMACTORS_METRICS_BIND": "127.0.0.1:0", "COLUMNS": "120"},
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait(self, condition: Callable[[], bool], within_s: float = 40.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, self.out + self.err
            assert self.process.poll() is None, self.out + self.err
            time.sleep(0.05)

    def urls(self) -> list[str]:
        """The URLs of the gateways."""
        return re.findall(r"^g\d: llmactors gateway g\d on (http\S+)$", self.out, re.MULTILINE)

    def children(self) -> dict[str, int]:
        """The pids of the child processes by their names."""
        found = {}
        for pid in children_of(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it was killed, and has been reaped since the list was read
            found[words[words.index("--name") + 1] if "--name" in words else "redis"] = pid
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path, "--gateways", "2", "--workers", "2", "--drain-s", "5")
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def answers(url: str) -> bool:
    try:
        answer = httpx.post(f"{url}/v1/generate", json={"prompt": "hi", "max_tokens": 3}, timeout=10)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def test_up_serves_restarts_killed_processes_and_ends_in_order(up: Up) -> None:
    up.wait(lambda: "the cluster is up" in up.out)
    assert "curl -N" in up.out
    assert len(up.urls()) == 2
    assert all(answers(url) for url in up.urls())
    before = up.children()
    assert sorted(before) == ["g1", "g2", "redis", "w1", "w2"]
    for name in ("w1", "g2", "redis"):
        os.kill(before[name], signal.SIGKILL)
    for name in ("w1", "g2", "redis"):
        up.wait(lambda name=name: up.children().get(name, before[name]) != before[name])  # type: ignore[misc]
    for url in up.urls():
        up.wait(lambda url=url: answers(url))  # type: ignore[misc]
    up.wait(lambda: up.out.count("w1: ") == 2)  # the second one is of the restart
    last = up.children()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    assert not any(map(is_alive, last.values()))
    lines = [json.loads(line) for line in up.err.splitlines()]
    assert any(line.get("node") == "g1" for line in lines)
    assert [line["phase"] for line in lines if "phase" in line and "node" not in line] == OWN_PHASES
    assert tracebacks_in(up.err) == []


def test_no_process_outlives_a_killed_up(up: Up) -> None:
    up.wait(lambda: "the cluster is up" in up.out)
    children = up.children()
    assert len(children) == 5
    up.process.kill()
    up.process.wait()
    deadline = time.monotonic() + 10
    while any(map(is_alive, children.values())) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = {name: pid for name, pid in children.items() if is_alive(pid)}
    for pid in left.values():
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_two_ups_refuse_to_share_a_data_folder(up: Up, tmp_path: Path) -> None:
    up.wait(lambda: "redis: " in up.out)
    (tmp_path / "second").mkdir()
    second = Up(tmp_path / "second", data=tmp_path / "data")
    assert second.process.wait(30) == 1
    assert "llmactors: another cluster has its data in " in second.err
    assert second.err.count("\n") == 1


def test_up_keeps_its_data_between_runs(tmp_path: Path) -> None:
    for _ in range(2):
        running = Up(tmp_path, "--gateways", "1", "--workers", "1")
        try:
            running.wait(lambda running=running: "the cluster is up" in running.out)  # type: ignore[misc]
            assert answers(running.urls()[0])
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(30) == 0
        finally:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()
    assert any((tmp_path / "data").rglob("*.aof"))


@pytest.mark.parametrize("long_path", [False, True])
def test_own_redis_serves_its_user_alone(tmp_path: Path, *, long_path: bool) -> None:
    data = tmp_path / ("x" * 120 if long_path else "a folder")
    data.mkdir(mode=0o755)
    old = data / "appendonlydir"
    old.mkdir(mode=0o755)
    running = Up(tmp_path, "--gateways", "1", "--workers", "1", data=data)
    try:
        running.wait(lambda: "the cluster is up" in running.out)
        assert answers(running.urls()[0])
        [url] = set(re.findall(r"--redis (unix://\S+)", running.out))
        pid = running.children()["redis"]
        listening = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=False).stdout
        assert f"pid={pid}," not in listening
        place = Path(url.removeprefix("unix://").replace("%20", " "))
        for path in (place, place.parent, data, *data.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0 or path.name == "lock", path
        for words in (["tree", "--cluster"], ["queue"], ["keys", "list"]):
            command = [sys.executable, "-m", "llmactors", *words, "--redis", url]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert done.returncode == 0, done.stderr
        assert "g1" in running.out
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        assert not place.exists()
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
