"""An environment for each peer, made when it is first needed, outside of the repository."""

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


def python_of(peer: str, root: Path | None = None) -> Path:
    """The interpreter of a peer's environment. Made anew when the requirements or this Python's version changed.

    Raises `RuntimeError` with what pip said, if the packages cannot be had.
    """
    requirements = HERE / peer / "requirements.txt"
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
    """The packages of a peer's environment that its requirements name."""
    code = (
        "import importlib.metadata as m, json;print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
    )
    answer = subprocess.run([python_of(peer, root), "-c", code], stdout=subprocess.PIPE, check=True).stdout
    installed: dict[str, str] = json.loads(answer)
    lines = (HERE / peer / "requirements.txt").read_text(encoding="utf-8").split()
    names = [line.partition("==")[0].partition("[")[0] for line in lines]
    return {name: installed[name] for name in names}
