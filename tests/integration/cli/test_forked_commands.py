"""A command that the tests start by a fork says and does what a command does that starts by `exec`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmactors import __version__
from llmactors.testing.node import NodeProcess
from tests.support.forked_commands import COMMAND, ForkedPopen

pytestmark = pytest.mark.integration

NODE = ("--model", "mock", "--bind", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def _forks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command of these tests is forked, or none where the name of the test says so."""
    monkeypatch.setattr(subprocess, "Popen", ForkedPopen)
    before = ForkedPopen.server.started
    yield
    anew = "anew" in request.node.name
    assert ForkedPopen.server.started - before == (0 if anew else 1)


def ran(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=50, **options)


def test_command_has_its_words_variables_folder_and_streams(tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text('bind = "127.0.0.1:7001"\n')
    environ = {**os.environ, "LLMACTORS_LOG_LEVEL": "error"}
    done = ran("config", "show", "--config", "here.toml", cwd=tmp_path, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "127.0.0.1:7001" in done.stdout
    assert "LLMACTORS_LOG_LEVEL" in done.stdout


def test_mistake_is_one_line_and_a_code() -> None:
    done = ran("tree", "--url", "http://127.0.0.1:1", "--no-such-flag")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_node_ends_with_a_signal(number: signal.Signals) -> None:
    with NodeProcess(*NODE) as node:
        node.wait_ready()
        assert node.process.poll() is None
        assert node.stop(number) == {signal.SIGTERM: 0, signal.SIGINT: 0, signal.SIGKILL: -9}[number]
        assert not Path(f"/proc/{node.process.pid}").exists()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["-m", "llmactors", "--version"], {"env": {**os.environ, "PYTHONUTF8": "1"}}),
        (["-m", "llmactors", "--version"], {"start_new_session": True}),
        (["-m", "llmactors", "--version"], {"pass_fds": [0]}),
        (["-X", "utf8", "-m", "llmactors", "--version"], {}),
    ],
)
def test_other_commands_start_anew(words: list[str], options: dict[str, Any]) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=50, **options)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")
