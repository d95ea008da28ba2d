"""The examples of the documents, run against a node with a simulated model."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmactors.testing.node import NodeProcess
from tests.support.documents import DOCUMENTS, PROJECT, Block, blocks

pytestmark = pytest.mark.integration

ADDRESS = "http://127.0.0.1:8000"
"""Where the examples look for a node."""
RUNNABLE = [block for document in DOCUMENTS for block in blocks(document) if block.mark == "run"]


@pytest.fixture(scope="module")
def node_url() -> Iterator[str]:
    """A node that is quick, under the name of the default model."""
    with NodeProcess("--model", "smollm2-135m=mock:step_ms=1", "--bind", "127.0.0.1:0") as node:
        yield node.wait_ready()


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_example_runs_and_prints_what_is_shown(block: Block, node_url: str, tmp_path: Path) -> None:
    said = _run(block, node_url, tmp_path)
    if block.prints is not None:
        assert re.fullmatch(_pattern(block.prints), said.strip()), said


def test_every_document_of_examples_is_run() -> None:
    assert {block.document for block in RUNNABLE} >= {"README.md", "ops/HANDBOOK.md", "llmactors/gateway/API.md"}


def _run(block: Block, url: str, folder: Path) -> str:
    text = block.text.replace(ADDRESS, url)
    command = {"sh": ["bash", "-euo", "pipefail", "-c", text], "python": [sys.executable, "-c", text]}[block.language]
    environ = {
        **os.environ,
        "LLMACTORS_URL": url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pattern(shown: str) -> str:
    """Of what an example prints: `…` is anything, on one line."""
    return "[^\n]*".join(map(re.escape, shown.strip().split("…")))
