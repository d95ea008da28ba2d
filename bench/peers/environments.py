"""A Python environment for each peer, created outside the repository when the peer is first needed."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

HERE = Path(__file__).resolve().parent
PEERS = ("origin", "litserve", "mosec", "hypercorn", "uvicorn")
PROXIES = ("vllm-router", "smg", "litellm")
"""Peers that pass requests on to a server of a model."""


def python_of(peer: str, root: Path | None = None) -> Path:
    """The interpreter of the environment of a peer, below the directory `root` or the cache directory of the user.

    The environment is created anew when the requirements of the peer or the version of Python have changed.

    Raises:
        RuntimeError: pip could not install the requirements. The message ends with the output of pip.
    """
    requirements = _requirements(peer)
    digest = hashlib.blake2b(requirements.read_bytes() + platform.python_version().encode(), digest_size=4).hexdigest()
    home = (root or platformdirs.user_cache_path("llmactors") / "peers") / f"{peer}-{digest}"
    python = home / "bin" / "python"
    complete = home / "complete"
    if complete.exists():
        return python
    print(f"installing {peer} into {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
        requirements,
    ]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{peer} cannot be installed: {done.stderr[-2000:]}")
    complete.touch()
    return python


def versions(peer: str, root: Path | None = None) -> dict[str, str]:
    """The installed versions of the packages that the requirements of a peer name."""
    code = (
        "import importlib.metadata as m, json;print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    )
    answer = subprocess.run([python_of(peer, root), "-c", code], stdout=subprocess.PIPE, check=True).stdout
    installed: dict[str, str] = json.loads(answer)
    lines = _requirements(peer).read_text(encoding="utf-8").split()
    names = [line.partition("==")[0].partition("[")[0] for line in lines]
    return {name: installed[name] for name in names}


def _requirements(peer: str) -> Path:
    return HERE / peer.replace("-", "_") / "requirements.txt"
