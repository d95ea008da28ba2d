"""The load client in a process of its own. Only this module knows the command line of the load client."""

import subprocess
import sys
from typing import Any

import msgspec

from bench.processes import ROOT


def load(
    url: str,
    *,
    clients: int,
    requests: int,
    max_tokens: int,
    rate: float | None = None,
    seconds: float | None = None,
    api: str = "native",
    check: str = "mock",
    key: str | None = None,
    prompt: str = "load",
    model: str | None = None,
    new_connections: bool = False,
    limit_s: float = 60.0,
    stall_s: float | None = None,
    core: int | None = None,
) -> dict[str, Any]:
    """Load `url` and return the figures, with times in seconds. Every token of every answer is checked.

    Without a `rate`, each client sends its next request when its last answer has ended. With a `rate`, requests arrive
    that often per second, of which at most `clients` run at a time. `limit_s` bounds the run, and a request fails that
    receives nothing for `stall_s`. `core` is the core on which the load client runs.

    Raises:
        RuntimeError: The load client could not run. Answers that failed are figures, and raise nothing.
    """
    options: dict[str, object] = {
        "--clients": clients,
        "--requests": requests,
        "--max-tokens": max_tokens,
        "--rate": rate,
        "--seconds": seconds,
        "--api": api,
        "--check": check,
        "--key": key,
        "--prompt": prompt,
        "--model": model,
        "--json": "-",
        "--limit-s": limit_s,
        "--stall-s": stall_s,
        "--core": core,
    }
    command = [sys.executable, "-m", "llmactors", "load", url]
    command += ["--new-connections"] if new_connections else []
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=2 * limit_s + 60)
    if done.returncode not in {0, 1}:  # 1 means that answers failed
        raise RuntimeError(f"the load client failed: {done.stderr.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found
