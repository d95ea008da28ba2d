"""An environment of its own for each set of packages, in the cache directory of the user."""

import fcntl
import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

from tests.clients.libraries.table import Client


def environment_of(client: Client, root: Path | None = None) -> Path:
    """The directory with the packages of a client, below `root` or the cache directory of the user.

    The environment is created anew when the packages of the client or the version of Python have changed.

    Raises:
        RuntimeError: pip or npm could not install the packages. The message ends with the output of pip or npm.
    """
    key = json.dumps([client.language, client.packages, platform.python_version()])
    digest = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
    home = (root or platformdirs.user_cache_path("llmactors") / "clients") / digest
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _create(client, home)
            (home / "complete").touch()
    return home


def _create(client: Client, home: Path) -> None:
    print(f"installing {', '.join(client.packages)} into {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    if client.language == "python":
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        _install(home / "bin" / "python", "-m", "pip", "install", "--quiet", *client.packages, cwd=home)
    else:
        # A package.json of its own keeps npm from installing into a directory above.
        (home / "package.json").write_text('{"private": true, "type": "module"}', encoding="utf-8")
        _install("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", *client.packages, cwd=home)


def _install(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-2000:]}")


def command_of(client: Client, home: Path) -> list[str | Path]:
    """The command that runs the script of a client in its environment."""
    if client.language == "python":
        return [home / "bin" / "python", client.path, *client.arguments]
    # Node looks for packages in the directories above a script, and not above the working directory.
    for each in client.path.parent.glob("*.mjs"):
        shutil.copy(each, home)
    return ["node", home / client.script, *client.arguments]


def installed_versions(client: Client, home: Path) -> str:
    """The installed versions of the packages that the table names, such as `openai 3.57.0`."""
    if client.language == "python":
        names = [each.partition(">=")[0].partition("[")[0] for each in client.packages]
        code = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
        return subprocess.run(
            [home / "bin" / "python", "-c", code, *names], capture_output=True, text=True, check=True
        ).stdout.strip()
    found = []
    for each in client.packages:
        name = each.rpartition("@")[0]
        package = json.loads((home / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
        found.append(f"{name} {package['version']}")
    return ", ".join(found)
