"""No reader of a process's output, and no lack of one, changes what the process serves."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from llmactors.testing.host import children_of, free_port

pytestmark = pytest.mark.integration

LLMACTORS = [sys.executable, "-m", "llmactors"]


def shell(line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command line of `llmactors` with redirections."""
    command = f"{shlex.quote(sys.executable)} -m llmactors {line}"
    # With this variable Python keeps nothing back that it could fail to write at its exit.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", command], env={**outside, **environ}, capture_output=True, timeout=30, check=False
    )


@contextlib.contextmanager
def serving(process: "subprocess.Popen[bytes]", port: int) -> Iterator[httpx.Client]:
    """A client of the node, once the node is ready. The process must end with code 0 at SIGTERM."""
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
            deadline = time.monotonic() + 30
            while True:
                assert process.poll() is None
                assert time.monotonic() < deadline
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/readyz").status_code == 200:
                        break
                time.sleep(0.05)
            yield client
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def start(port: int, *, redirect: str = "", **streams: int) -> "subprocess.Popen[bytes]":
    flags = f"--model mock --bind 127.0.0.1:{port} --access-log --drain-s 2"
    line = f"exec {shlex.quote(sys.executable)} -m llmactors serve {flags} {redirect}"
    return subprocess.Popen(["bash", "-c", line], **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    "redirect",
    [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>/dev/full", "| true", "2>&1 | true"],
)
def test_node_serves_whatever_its_streams_are(redirect: str, tmp_path: Path) -> None:
    port, error = free_port(), tmp_path / "err"
    pipe = None
    if "|" in redirect:
        # A pipe whose reader has gone.
        read, pipe = os.pipe()
        os.close(read)
        redirect = "2>&1" if "2>&1" in redirect else ""
    with error.open("wb") as err:
        streams = {"stdout": err.fileno() if pipe is None else pipe, "stderr": err.fileno()}
        process = start(port, redirect=redirect, **streams)
    if pipe is not None:
        os.close(pipe)
    with serving(process, port) as client:
        assert client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 3}).status_code == 200
    assert "Traceback" not in error.read_text()


def test_unread_log_does_not_stop_the_node() -> None:
    port = free_port()
    read, write = os.pipe()
    process = start(port, stdout=subprocess.DEVNULL, stderr=write)
    os.close(write)
    with serving(process, port) as client:
        for _ in range(600):  # the log holds 1 MiB of lines, and each line shows the path
            assert client.get("/" + "x" * 3000).status_code == 404
        metrics = client.get("/metrics").text
        name = 'llmactors_output_lines_dropped_total{stream="stderr"}'
        assert float(metrics.partition(name)[2].split()[0]) > 0
        # The log flows again, and says what it lacks.
        lines: list[bytes] = []
        with os.fdopen(read, "rb") as log:
            while not any(b"were dropped" in line for line in lines):
                lines.append(log.readline())
                client.get("/v1/models")
            assert json.loads(lines[-1])["dropped"] > 0
            os.set_blocking(log.fileno(), False)


def test_cluster_outlives_the_reader_of_its_log(tmp_path: Path) -> None:
    port = free_port()
    read, write = os.pipe()
    command = [*LLMACTORS, "up", "--bind", f"127.0.0.1:{port}", "--model", "mock", "--gateways", "1", "--workers", "1"]
    process = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path), "--drain-s", "2", "--access-log", "--metrics-bind", "127.0.0.1:0"],
        stdout=write,
        stderr=write,
    )
    os.close(write)
    with serving(process, port) as client:
        before = sorted(children_of(process.pid))
        os.close(read)
        for _ in range(50):
            assert client.get("/v1/models").status_code == 200
        time.sleep(0.5)
        assert client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 3}).status_code == 200
        assert sorted(children_of(process.pid)) == before


def test_every_line_of_a_json_log_is_json(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        "import sys, warnings\n"
        "def generate(prompts, max_tokens):\n"
        "    print('a line of its own', file=sys.stderr)\n"
        "    warnings.warn('careful')\n"
        "    yield ['x' for _ in prompts]\n"
        "    raise ValueError('it broke')\n"
    )
    port, error = free_port(), tmp_path / "err"
    with error.open("wb") as err:
        process = subprocess.Popen(
            [*LLMACTORS, "--model", "chatty:generate", "--bind", f"127.0.0.1:{port}", "--log-format", "json"],
            stdout=subprocess.DEVNULL,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
    with serving(process, port) as client:
        client.post("/v1/generate", json={"prompt": "hi", "max_tokens": 3, "deadline_ms": 1000}, timeout=10)
    text = error.read_text()
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "logger"} <= line.keys() for line in found)
    assert "a line of its own" in text
    assert "careful" in text


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("config show >/dev/full", 1, b"llmactors: the output cannot be written: No space left on device\n"),
        ("config show >&-", 0, b""),
        ("config show 2>&-", 0, b""),
        ("config show | true; exit ${PIPESTATUS[0]}", 0, b""),
        ("config --help | true; exit ${PIPESTATUS[0]}", 0, b""),
        ("config check /nowhere 2>/dev/full", 2, b""),
        ("--help >/dev/full", 1, b"llmactors: the output cannot be written: No space left on device\n"),
        ("serve --model $'caf\\xe9'", 2, b"llmactors: the argument 'caf\\udce9' is not UTF-8\n"),
        ("generate --url http://127.0.0.1:1 <<< $'caf\\xe9'", 2, b"llmactors: standard input is not UTF-8: byte 3"),
    ],
)
def test_output_that_fails_gives_a_code_and_one_line(line: str, code: int, says: bytes) -> None:
    result = shell(line)
    assert (result.returncode, result.stderr[: len(says)]) == (code, says)
    assert result.stderr.count(b"\n") == (1 if says else 0)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_output_in_any_encoding_shows_every_character(locale: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "llmactors.toml"
    file.write_text('model = ["naïve=mock"]\n', encoding="utf-8")
    result = shell(f"config show --config {file}", PYTHONCOERCECLOCALE="0", **locale)
    assert result.returncode == 0, result.stderr
    assert b"na" in result.stdout
