"""Backends of others, served through the command line as `CUSTOM.md` shows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from llmactors.testing.node import NodeProcess

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
PAGE = Path(__file__).parents[3] / "llmactors" / "backends" / "custom" / "CUSTOM.md"


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which a package with an entry point is installed."""
    site = tmp_path_factory.mktemp("site")
    info = site / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[llmactors.backends]\ncountdown = example_backend:Countdown\n")
    (site / "broken_backend.py").write_text("import nothing_like_this\n")
    (site / "raising_backend.py").write_text("raise ValueError('of no use')\n")
    (site / "failing_backend.py").write_text(
        "def fail(prompts, max_tokens):\n    raise ValueError('a weight is missing')\n"
    )
    (site / "odd_backend.py").write_text("def make():\n    return object()\n")
    return {"PYTHONPATH": f"{HERE}:{site}"}


@pytest.fixture(scope="module")
def node(environ: dict[str, str]) -> Iterator[NodeProcess]:
    models = [
        "shout=example_backend:shout",
        "example_backend:Loud,mark=?,slots=2",
        "down=example_backend:Countdown",
        "countdown:start=3",
        "failing=failing_backend:fail",
    ]
    flags = [word for model in models for word in ("--model", model)]
    with NodeProcess(*flags, "--bind", "127.0.0.1:0", environ=environ) as process:
        process.wait_ready()
        yield process


@pytest.mark.parametrize(
    ("model", "max_tokens", "text", "reason"),
    [
        ("shout", 9, "SAY IT LOUD ", "stop"),
        ("shout", 2, "SAY IT ", "length"),
        ("Loud", 9, "SAY?IT?LOUD?", "stop"),
        ("down", 3, "10 9 8 ", "length"),
        ("countdown", 9, "3 2 1 0 ", "stop"),
    ],
)
def test_each_kind_of_backend_is_served(node: NodeProcess, model: str, max_tokens: int, text: str, reason: str) -> None:
    body = {"prompt": "say it loud", "model": model, "max_tokens": max_tokens}
    answer = httpx.post(f"{node.url}/v1/generate", json=body).json()
    assert (answer["text"], answer["finish_reason"]) == (text, reason)


def test_stop_string_ends_the_answer_of_a_function(node: NodeProcess) -> None:
    body = {"prompt": "say it loud", "model": "shout", "stop": ["T LO"]}
    answer = httpx.post(f"{node.url}/v1/generate", json=body).json()
    assert (answer["text"], answer["finish_reason"], answer["usage"]["completion_tokens"]) == ("SAY I", "stop", 3)


def test_traceback_of_a_backend_is_in_the_log_alone(node: NodeProcess) -> None:
    body = {"prompt": "say it loud", "model": "failing"}
    answer = httpx.post(f"{node.url}/v1/generate", json=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "POISONED")
    assert "weight" not in answer.text
    crashed = [line for line in node.errors().splitlines() if '"an actor crashed"' in line]
    assert len(crashed) == 1  # one traceback for each kind of crash
    assert "failing_backend.py" in crashed[0]
    assert "a weight is missing" in crashed[0]


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("nosuch:Backend", "`model`: nosuch:Backend: there is no module 'nosuch'"),
        ("example_backend:shuot", "`model`: example_backend:shuot: module 'example_backend' has no 'shuot'"),
        (
            "collections:Counter",
            "`model`: collections:Counter is not a backend: it has no start, admit, step, evict, check, close",
        ),
        (
            "example_backend:Countdown,strat=3",
            "`model`: example_backend:Countdown: there is no option 'strat'; valid are: start",
        ),
        (
            "example_backend:Countdown,start=x",
            "`model`: example_backend:Countdown: option start=x: Expected `int`, got `str`",
        ),
        ("countdown:start", "`model`: countdown: option 'start' is no KEY=VALUE"),
        (
            "example_backend:shout,slots=0",
            "`model`: example_backend:shout: option slots=0: Expected `int` >= 1",
        ),
        (
            "broken_backend:x",
            "`model`: broken_backend:x: module 'broken_backend' needs 'nothing_like_this', which is not installed",
        ),
        (
            "raising_backend:x",
            "`model`: raising_backend:x: module 'raising_backend' cannot be imported: ValueError: of no use",
        ),
        (
            "odd_backend:make",
            "`model`: odd_backend:make is not a backend: its object has no start, admit, step, evict, check, close",
        ),
        ("os:sep", "`model`: os:sep is not a backend: it is a str, and cannot be called"),
        ("gpt=openai:", "`model`: openai: needs a URL, as in openai:http://host:8000/v1,model=NAME"),
        (
            "gpt=openai:http://127.0.0.1:1/v1,key_env=UPSTREAM_TEST_NO_SUCH_KEY",
            "`model`: key_env=UPSTREAM_TEST_NO_SUCH_KEY: there is no such variable, or it is empty",
        ),
    ],
)
def test_unusable_custom_backend_is_one_line(environ: dict[str, str], model: str, line: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "llmactors", "--model", model, "--bind", "127.0.0.1:0", "--log-level", "error"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "LLMACTORS_LOG_FORMAT": "console", **environ},
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == f"llmactors: {line}"
    assert "Traceback" not in result.stderr


def test_custom_page_shows_real_error_lines() -> None:
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("llmactors: `model`")]
    mark = test_unusable_custom_backend_is_one_line.pytestmark[0]  # type: ignore[attr-defined]
    said = {f"llmactors: {line}" for _, line in mark.args[1]}
    assert shown
    assert set(shown) <= said
