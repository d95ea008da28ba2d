"""The load client, run in a process of its own: the one place that knows its command line."""

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
    warmup: int = 0,
    limit_s: float = 60.0,
    core: int | None = None,
) -> dict[str, Any]:
    """Loads `url` and says what was found, with times in seconds. Every token of every answer is checked."""
    options: dict[str, object] = {
        "--clients": clients,
        "--requests": requests,
        "--max-tokens": max_tokens,
        "--warmup": warmup or None,
        "--limit-s": limit_s,
        "--core": core,
    }
    command = [sys.executable, "-m", "bench.load", url]
    for name, value in options.items():
        if value is not None:
            command += [name, str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=2 * limit_s + 60)
    if done.returncode:
        raise RuntimeError(f"the load client failed: {done.stderr.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found
