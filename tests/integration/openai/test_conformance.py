"""Both major versions of the official client work with a simulated model and with a real one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio

from llmactors.backends.build import serve_models
from llmactors.config import Settings
from llmactors.testing.node import LocalNode, local_node, mock_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SCRIPT = Path(__file__).with_name("conformance.py")
ASKED_FOR = ("openai>=2,<3", "trio")


async def conforms(python: Path | str, node: LocalNode, model: str, *ways: str) -> str:
    """Runs the conformance program, and returns its output. Fails with its traceback if a check fails."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = await trio.run_process(
        [str(python), "-W", "ignore::ResourceWarning", str(SCRIPT), node.url, model, *ways],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environ,
    )
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode())


@pytest.fixture(scope="session")
def python_of_version_2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the newest client 2.x. `--cache-clear` makes the environment anew."""
    cache = getattr(request.config, "cache", None)
    place = tmp_path_factory.mktemp("openai-2") if cache is None else cache.mkdir("openai-2")
    python = place / "bin" / "python"
    if _has_version_2(python):
        return python
    shutil.rmtree(place)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run([*pip, *ASKED_FOR], capture_output=True, text=True, timeout=150, check=False)
        said = done.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        said = "it took longer than 150 s"
    if not _has_version_2(python):
        pytest.skip(f"pip could not install {' '.join(ASKED_FOR)}: give it an index that it can reach ({said})")
    return python


def _has_version_2(python: Path) -> bool:
    check = "import openai, trio; assert openai.__version__.startswith('2.')"
    return python.exists() and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


async def test_installed_openai_client_conforms() -> None:
    async with local_node(mock_model("step_ms=2")) as node:
        said = await conforms(sys.executable, node, "mock")
    assert said.startswith("openai "), said


async def test_newest_openai_client_of_version_2_conforms(python_of_version_2: Path) -> None:
    async with local_node(mock_model("step_ms=2")) as node:
        said = await conforms(python_of_version_2, node, "mock")
    assert said.startswith("openai 2."), said


@pytest.mark.model
async def test_openai_client_conforms_with_a_real_model(gguf: Path) -> None:
    settings = Settings(model=(f"smol={gguf}",), bind="127.0.0.1:0", slots=2, context=512)
    async with local_node(*serve_models(settings)) as node:
        with trio.fail_after(60):
            while (await node.client.get("/readyz")).status_code != httpx.codes.OK:  # noqa: ASYNC110 - no event
                await trio.sleep(0.05)
        await conforms(sys.executable, node, "smol", "sync", "trio")
