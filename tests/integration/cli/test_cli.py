"""The command line as its user meets it: real processes, real ports, one line per mistake."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmactors.cli import run
from llmactors.testing.node import NodeProcess
from tests.support.oracle import oracle

pytestmark = pytest.mark.integration


def llmactors(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmactors", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "LLMACTORS_LOG_FORMAT": "console", **environ},
    )


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    with NodeProcess("--model", "mock:step_ms=2", "--bind", "127.0.0.1:0") as process:
        process.wait_ready()
        yield process


@pytest.mark.parametrize("transport", [(), ("--ws",)], ids=["sse", "websocket"])
def test_generate_streams_the_answer_to_the_terminal(node: NodeProcess, transport: tuple[str, ...]) -> None:
    result = llmactors("generate", "hello there", "--url", node.url, "--max-tokens", "20", *transport)

    assert (result.returncode, result.stdout, result.stderr) == (0, oracle("hello there", 20) + "\n", "")


def test_generate_reads_the_prompt_from_standard_input(node: NodeProcess) -> None:
    result = llmactors("generate", "--max-tokens", "3", stdin="from a pipe", LLMACTORS_URL=node.url)

    assert result.stdout == oracle("from a pipe", 3) + "\n"


@pytest.mark.parametrize("transport", [(), ("--ws",)], ids=["sse", "websocket"])
def test_generate_shows_an_error_as_one_line(node: NodeProcess, transport: tuple[str, ...]) -> None:
    result = llmactors("generate", "hello", "--url", node.url, "--model", "nosuch", *transport)

    assert result.returncode == 1
    assert result.stderr == "llmactors: there is no such model; this node serves: mock\n"


def test_top_prints_one_frame_to_a_pipe(node: NodeProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--url", node.url]) == 0
    printed = capfd.readouterr().out
    assert re.search(r"^node +gateway\+worker +up +", printed, re.MULTILINE)
    assert re.search(r"^mock +ready +0/", printed, re.MULTILINE)
    assert run(["top", "--url", node.url, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["source"], found["requests_total"], found["models"][0]["name"]) == (node.url, 0, "mock")
    assert run(["tree", "--watch", "--url", node.url]) == 0
    assert capfd.readouterr().out.startswith("node running")
    assert run(["top", "--url", "http://127.0.0.1:1"]) == 1
    assert "no node answers" in capfd.readouterr().err


def test_top_leaves_the_terminal_as_it_was(node: NodeProcess) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(follower)
    command = [sys.executable, "-m", "llmactors", "top", "--url", node.url]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True)
    seen = b""
    while b"mock" not in seen:
        seen += os.read(leader, 65536)
    os.write(leader, b"xq")
    while process.poll() is None or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.05)[0]:
            seen += os.read(leader, 65536)
    assert process.returncode == 0
    assert termios.tcgetattr(follower) == before
    assert b"Traceback" not in seen
    assert b"\x1b[?1049l" in seen, "the screen of before is shown again"
    os.close(leader)
    os.close(follower)


def test_tree_shows_every_actor(node: NodeProcess) -> None:
    shown = llmactors("tree", "--url", node.url, COLUMNS="120").stdout
    for name in ("node", "infra", "reaper", "telemetry", "serving", "backends", "mock", "batcher:mock", "gateway"):
        assert name in shown

    root = json.loads(llmactors("tree", "--url", node.url, "--json").stdout)
    assert [child["name"] for child in root["children"]] == ["infra", "http", "serving"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--bind", "nonsense"], 2, "`bind` must be HOST:PORT"),
        (["--modle", "mock"], 2, "--modle. Did you mean --model?"),
        (["nocommand"], 2, "there is no command 'nocommand'; see `llmactors --help`"),
        (["srve"], 2, "there is no command 'srve'; did you mean serve?"),
        (["keys", "creat"], 2, "there is no command 'keys creat'; did you mean create?"),
        (["tree", "extra"], 2, "`tree` does not take the argument 'extra'; see `llmactors tree --help`"),
        (["drain"], 2, "`drain` needs NODE; see `llmactors drain --help`"),
        (["--slots"], 2, "--slots needs a value"),
        (["--slots", "1", "--slots", "2"], 2, "--slots is given more than once"),
        (["--slots", "many"], 2, "--slots: `slots` must be a whole number"),
        (["--log-level", "loud"], 2, "`log_level` must be one of debug, info, warning, error, not 'loud'"),
        (["--access-log=maybe"], 2, "--access-log"),
        (["--slots", "0"], 2, "`slots`"),
        (["--rate-limit", "often"], 2, "`rate_limit` must be COUNT/PERIOD"),
        (["--model", "mock:speed=9"], 2, "there is no 'speed'"),
        (["--model", "mock", "--model", "mock"], 2, "two models are called 'mock'"),
        (["--config", "/no/such/file.toml"], 2, "cannot read /no/such/file.toml"),
        (["--model", "nosuch"], 1, "there is no model 'nosuch'"),
        (["--model", "/no/such/model.gguf"], 1, "there is no model file /no/such/model.gguf"),
        (["generate", "hi", "--url", "http://127.0.0.1:1"], 1, "no node answers"),
        (["generate", "hi", "--ws", "--url", "http://127.0.0.1:1"], 1, "no node answers"),
        (["tree", "--url", "http://127.0.0.1:1"], 1, "no node answers"),
        (["pull", "nosuch"], 1, "there is no model 'nosuch'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_error_is_one_line_with_its_exit_code(arguments: list[str], code: int, says: str) -> None:
    if not arguments[0].isalpha() and "--bind" not in arguments:
        arguments = ["--bind", "127.0.0.1:0", *arguments]
    result = llmactors(*arguments)

    assert result.returncode == code
    assert result.stderr.startswith("llmactors: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_port_in_use_is_reported_before_the_model_loads(node: NodeProcess) -> None:
    address = node.url.removeprefix("http://")
    result = llmactors("--model", "mock", "--bind", address)

    assert result.returncode == 1
    assert result.stderr.startswith(f"llmactors: cannot listen on {address}: Address already in use")
    assert result.stderr.count("\n") == 1


def test_unreadable_model_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"this is no model")
    result = llmactors("--model", str(path), "--bind", "127.0.0.1:0")

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("llmactors: ")
    assert "broken.gguf" in result.stderr
    assert "Traceback" not in result.stderr


def test_key_of_the_environment_is_required_and_sent() -> None:
    with NodeProcess("--model", "mock", "--bind", "127.0.0.1:0", environ={"GATEWAY_API_KEY": "s3cret"}) as process:
        url = process.wait_ready()

        refused = llmactors("generate", "hello", "--url", url, GATEWAY_API_KEY="")
        assert refused.returncode == 1
        assert "API key" in refused.stderr
        assert "API key" in llmactors("generate", "hello", "--ws", "--url", url, GATEWAY_API_KEY="wrong").stderr
        assert llmactors("generate", "hello", "--url", url, GATEWAY_API_KEY="s3cret").returncode == 0
        assert llmactors("generate", "hello", "--ws", "--url", url, "--api-key", "s3cret").returncode == 0


def test_demo_shows_a_stream_that_survives_its_backend() -> None:
    result = llmactors("demo", "--model", "mock:step_ms=5", "--max-tokens", "40", "--kill-at", "15", COLUMNS="100")

    assert result.returncode == 0
    assert "All 40 tokens are those of an undisturbed run: none lost, none repeated." in result.stdout
