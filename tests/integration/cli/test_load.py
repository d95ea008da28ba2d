"""`load` and `bench` on the command line."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmactors.cli import run, synthetic_load
from llmactors.testing.node import NodeProcess
from tests.support.canned_server import Asked, CannedServer

pytestmark = pytest.mark.integration
COMMAND = (sys.executable, "-m", "llmactors")


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    with NodeProcess("--model", "mock:step_ms=2", "--bind", "127.0.0.1:0") as process:
        process.wait_ready()
        yield process


def llmactors(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environ},
    )


def test_load_ends_with_a_table_without_control_codes(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = llmactors(
        *("load", node.url, "--requests", "12", "--concurrency", "4", "--max-tokens", "6"),
        *("--check", "mock", "--out", str(file)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("12 of 12 answers right, token by token in ")
    assert "first token after, ms" in done.stdout
    assert "this client: " in done.stdout
    assert "\x1b" not in done.stdout
    figures = json.loads(file.read_text())
    assert (figures["correct"], figures["failed"], figures["tokens"]) == (12, 0, 72)
    # Programs that read the JSON rely on these fields.
    assert {"mean", "p50", "p90", "p95", "p99", "p99.9", "max"} <= figures["latency_s"].keys()
    assert {"ttft_s", "token_gap_s", "steady_gap_s", "read_gap_s", "tokens_per_chunk"} <= figures.keys()
    assert {"seconds", "errors", "examples", "requests_per_s", "tokens_per_s", "plan"} <= figures.keys()
    assert {"cpu_s", "busy", "cores", "checked_early"} <= figures["client"].keys()


def test_json_is_alone_on_standard_output(node: NodeProcess) -> None:
    core = str(max(os.sched_getaffinity(0)))
    done = llmactors(
        *("load", "--requests", "4", "--max-tokens", "3", "--no-stream", "--json", "-", "--core", core),
        *("--server-pid", str(node.process.pid)),
        LLMACTORS_URL=node.url,
    )
    figures = json.loads(done.stdout)
    assert (done.returncode, figures["plan"]["api"], figures["correct"]) == (0, "native-json", 4)
    assert (figures["client"]["cores"], figures["ttft_s"]) == ([int(core)], {})
    assert figures["server"]["cpu_s"] >= 0
    assert done.stderr.startswith("4 of 4 answers whole in ")
    assert "\x1b" not in done.stderr


# The tests below run the command in this process, since a process of its own takes a second to start.


def test_openai_routes_take_the_servers_first_model(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["load", f"{node.url}/v1", "--api", "chat", "--requests", "4", "--max-tokens", "3", "--json", "-"]
    assert run(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["plan"]["model"], figures["tokens"]) == ("mock", 12)


def test_failures_make_the_exit_code_1(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["load", node.url, "--model", "nosuch", "--requests", "3"]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert "failed: 3 x http_404" in said.out
    assert "of these 3 x http_404 NOT_FOUND" in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["http://127.0.0.1:1"], 1, "no server answers at http://127.0.0.1:1: connection refused"),
        (["http://192.0.2.1:80"], 2, "192.0.2.1 is not this machine"),
        (["--clients", "0"], 2, "`clients` must be from 1 to 10,000, not 0"),
        (["--rate", "fast"], 2, "--rate"),
        (["--api", "nosuch"], 2, "--api"),
        (["--core", "4096"], 2, "`core`: there is no core 4096"),
        (["--out", "/nosuch/dir/x"], 2, "`json`: /nosuch/dir/x cannot be written"),
        (["--api", "ws", "--no-stream"], 2, "`api`: on a WebSocket everything streams"),
        (["--synthetic", "--rate", "3"], 2, "`synthetic` has no routes"),
    ],
)
def test_usage_error_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["load", *arguments]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("llmactors: ")
    assert said.err.count("\n") == 1
    assert says in said.err


def test_synthetic_says_that_no_http_was_involved() -> None:
    done = llmactors("load", "--synthetic", "--requests", "20", "--concurrency", "4", "--stream", "--max-tokens", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("20 of 20 answers right, token by token")
    assert "no HTTP, no sockets and no Redis were involved" in done.stdout
    assert "first token after, ms" in done.stdout


def test_synthetic_counts_what_the_backend_fails() -> None:
    """Of ten requests only number 1 has a prompt that the backend refuses."""
    result = synthetic_load.measure(
        clients=3, requests=10, max_tokens=2, stream=False, model="mock:refuse=load 1,slots=4", limit_s=20
    )
    assert (result["correct"], result["errors"]) == (9, {"stream_error": 1})
    assert result["error_codes"] == {"stream_error BACKEND_FAILED": 1}


def test_synthetic_load_ends_at_its_time_limit() -> None:
    result = synthetic_load.measure(
        clients=3, requests=10, max_tokens=2, stream=True, model="mock:hang_at=2,slots=4", limit_s=0.3
    )
    assert (result["correct"], result["errors"], result["ended"]) == (0, {"broken_off": 3}, "limit")


def on_terminal(*arguments: str, interrupt_after: str = "") -> tuple[int, str]:
    """Runs the command with a terminal as stdout and stderr, and sends SIGINT once `interrupt_after` is seen."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            data = os.read(leader, 65536)
        except OSError:  # EIO: no process has the terminal open any more
            break
        if not data:
            break
        seen += data
        if interrupt_after and interrupt_after.encode() in seen:
            interrupt_after = ""
            os.killpg(process.pid, signal.SIGINT)
    os.close(leader)
    return process.wait(10), seen.decode()


def test_ctrl_c_on_a_terminal_shows_the_figures_so_far(node: NodeProcess) -> None:
    code, seen = on_terminal(
        *("load", node.url, "--seconds", "60", "--clients", "4", "--max-tokens", "8"), interrupt_after=" under way, "
    )
    assert code == 130
    assert "━" in seen
    assert "answers whole" in seen
    assert "stopped by hand, with" in seen
    assert "Traceback" not in seen


def test_bench_measures_a_node_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = llmactors("bench", "--requests", "20", "--clients", "4", "--max-tokens", "4", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 requests at a time, 4 tokens each" in done.stdout
    assert "one request at a time" in done.stdout
    figures: dict[str, Any] = json.loads(file.read_text())
    assert [result["correct"] for result in figures.values()] == [20, 20]
    assert len({result["plan"]["port"] for result in figures.values()}) == 1


def test_refused_key_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def script(_: Asked) -> Iterator[bytes]:
        body = b'{"error":{"code":"UNAUTHENTICATED","message":"send the API key"}}'
        yield b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    with CannedServer(script) as server:
        assert run(["load", server.url, "--requests", "2", "--clients", "1", "--api", "native-json"]) == 1
        assert "give a key that it knows with --api-key or GATEWAY_API_KEY" in capsys.readouterr().out
        assert run(["load", server.url, "--requests", "2", "--clients", "1", "--api", "chat"]) == 1
        assert "give the key with --api-key or GATEWAY_API_KEY" in capsys.readouterr().err
